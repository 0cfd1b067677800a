//! A connection that is idle keeps what rustls has to remember of it, and no buffer for bytes.
//!
//! The allocator of this program counts what the thread of the worker has asked for and not given back.
#![allow(unsafe_code)]

use ringline_core::{Admit, Config, ConnId, Consumed, Ctx, EventHandler, Peer, Server};
use ringline_tls::rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use ringline_tls::rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};
use ringline_tls::{ListenTls, TlsConfig};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// How long anything may take that should happen at once.
const SOON: Duration = Duration::from_secs(30);
const CLIENTS: usize = 200;
/// More than one record, so that every buffer there is was needed.
const MESSAGE_BYTES: usize = 50_000;
/// What an idle connection may keep: its row and its inbox in the tables, and the state of rustls.
const BYTES_PER_CONNECTION: i64 = 6 * 1024;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What the worker's thread has and others do not count.
static HELD_BYTES: AtomicI64 = AtomicI64::new(0);

thread_local! {
    /// Needs neither memory nor a destructor, so that the allocator may look at it at any time.
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

fn note(bytes: i64) {
    if IS_WORKER.get() {
        HELD_BYTES.fetch_add(bytes, Ordering::Relaxed);
    }
}

// SAFETY: the system's allocator keeps the contract, and every call is passed on to it unchanged.
// Counting touches only numbers that are in place already.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as i64);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as i64);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note(bytes as i64 - layout.size() as i64);
        // SAFETY: the caller keeps the contract of `realloc`, and the memory is the system's.
        unsafe { System.realloc(memory, layout, bytes) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        note(-(layout.size() as i64));
        // SAFETY: the caller keeps the contract of `dealloc`, and the memory is the system's.
        unsafe { System.dealloc(memory, layout) }
    }
}

struct Echo;

impl EventHandler for Echo {
    type Conn = ();
    type Message = ();

    fn on_start(&mut self, _: &mut Ctx<'_, Self>) {
        IS_WORKER.set(true);
    }

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Accept(())
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        match cx.send(id, data) {
            Ok(_) => Consumed::all(data),
            Err(_) => Consumed::none(),
        }
    }
}

/// What the server shows, and a client that knows it.
fn configs() -> (TlsConfig, Arc<ClientConfig>) {
    let provider = Arc::new(ringline_tls::rustls::crypto::ring::default_provider());
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate");
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let server =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let server = server
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key.into())
        .expect("a key for the certificate");
    let mut roots = RootCertStore::empty();
    roots.add(certified.cert.der().clone()).expect("a root");
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let client = client.expect("versions").with_root_certificates(roots).with_no_client_auth();
    (TlsConfig::from_rustls(Arc::new(server)), Arc::new(client))
}

/// A client whose message has come back.
fn served(addr: SocketAddr, config: &Arc<ClientConfig>) -> StreamOwned<ClientConnection, TcpStream> {
    let stream = TcpStream::connect(addr).expect("the server listens");
    stream.set_read_timeout(Some(SOON)).expect("an option");
    let name = ServerName::try_from("localhost").expect("a name");
    let mut client =
        StreamOwned::new(ClientConnection::new(Arc::clone(config), name).expect("a client"), stream);
    let mut echoed = vec![0; MESSAGE_BYTES];
    client.write_all(&vec![7; MESSAGE_BYTES]).expect("it is open");
    client.read_exact(&mut echoed).expect("all of it comes back");
    assert!(echoed.iter().all(|byte| *byte == 7));
    client
}

#[test]
fn an_idle_connection_keeps_no_buffers() {
    let (tls, config) = configs();
    let settings = Config::builder().workers(1).pin(false).linger(Duration::from_millis(100)).build();
    let server = Server::new(settings.expect("a configuration")).listen_tls("127.0.0.1:0", &tls);
    let running = server.expect("a listener").launch(|_| Echo).expect("a server");
    let addr = running.local_addrs()[0];
    // What the worker needs once is there after some.
    let first: Vec<_> = (0..16).map(|_| served(addr, &config)).collect();
    let before = HELD_BYTES.load(Ordering::Relaxed);
    let clients: Vec<_> = (0..CLIENTS).map(|_| served(addr, &config)).collect();
    let each = (HELD_BYTES.load(Ordering::Relaxed) - before) / CLIENTS as i64;
    println!("{each} bytes for each idle connection");
    assert!(each > 500, "the worker's memory is counted: {each} bytes each");
    assert!(each <= BYTES_PER_CONNECTION, "{each} bytes for each idle connection");
    drop((first, clients));
    running.shutdown(SOON).expect("the server ends in order");
}
