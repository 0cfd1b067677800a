//! Peers that cost more than they are worth: each is cut off, for a reason that says what it did.

use super::certificates::Folder;
use super::peer::{Notes, Peer, Sides, provider};
use ringline_core::testing::{Faults, World};
use ringline_core::{Admit, CloseReason, Config, ConnId, Consumed, Ctx, Deadlines, EventHandler, Limit};
use ringline_tls::{TlsFault, TlsVersions};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

/// Echoes.
#[derive(Default)]
struct Echo {
    opened: usize,
    last: Option<ConnId>,
    closed: Vec<CloseReason>,
}

impl Notes for Echo {
    fn closed(&self) -> &[CloseReason] {
        &self.closed
    }
}

impl EventHandler for Echo {
    type Conn = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &ringline_core::Peer) -> Admit<()> {
        Admit::Accept(())
    }

    fn on_open(&mut self, _: &mut Ctx<'_, Self>, id: ConnId, (): &mut ()) {
        self.opened += 1;
        self.last = Some(id);
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        let _ = cx.send(id, data);
        Consumed::all(data)
    }

    fn on_close(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): (), reason: CloseReason) {
        self.closed.push(reason);
    }
}

fn world(sides: &Sides) -> World<Echo> {
    world_with(sides, Deadlines::none())
}

fn world_with(sides: &Sides, deadlines: Deadlines) -> World<Echo> {
    let config = Config::builder().deadlines(deadlines).build().expect("valid");
    World::layered(&config, 1, Faults::none(), Arc::new(sides.server.clone()), Echo::default())
}

/// Turns until the connection is over, a millisecond at a time, while `act` does what it does.
fn end(world: &mut World<Echo>, mut act: impl FnMut(&mut World<Echo>)) -> CloseReason {
    for _ in 0..30_000 {
        act(world);
        if let Some(reason) = world.handler().closed().first() {
            return *reason;
        }
        world.sleep(Duration::from_millis(1));
    }
    panic!("the connection never ends");
}

/// What becomes of a peer that writes this instead of a hello, and what it is told.
fn told(folder: &Folder, bytes: &[u8]) -> (CloseReason, Vec<u8>) {
    let sides = Sides::new(folder, TlsVersions::All, None);
    let mut world = world(&sides);
    let peer = world.connect();
    let mut rest = bytes;
    let mut told = Vec::new();
    let reason = end(&mut world, |world| {
        let written = world.write(peer, rest);
        rest = &rest[written..];
        told.extend(world.read(peer, usize::MAX));
        if world.saw_eof(peer) {
            world.end(peer);
        }
    });
    assert_eq!(world.handler().opened, 0);
    world.finish();
    (reason, told)
}

#[test]
fn what_is_no_handshake_is_answered_with_an_alert_and_named() {
    let folder = Folder::new();
    let garbage = b"GET / HTTP/1.1\r\nHost: server.test\r\n\r\n".to_vec();
    let oversized = [&[0x16, 3, 1, 0xFF, 0xFF][..], &vec![0; 40_000]].concat();
    let empty = [0x16, 3, 1, 0, 0].repeat(1_000);
    let early = [&[0x17, 3, 3, 0, 32][..], &[7; 32]].concat();
    let warnings = [0x15, 3, 3, 0, 2, 1, 0].repeat(5);
    let long = [&[0x16, 3, 1, 0x40, 0, 1, 0xFF, 0xFF, 0xFF][..], &vec![0; 16_380]].concat();
    for (bytes, fault, is_told) in [
        (garbage, TlsFault::NotTls, true),
        (oversized, TlsFault::Oversized, true),
        (empty, TlsFault::Malformed, true),
        (early, TlsFault::Misbehaved, true),
        (warnings, TlsFault::Misbehaved, false),
        // rustls has no alert for this one.
        (long, TlsFault::Oversized, false),
    ] {
        let (reason, told) = told(&folder, &bytes);
        assert_eq!(TlsFault::of(reason), Some(fault), "{reason:?} for {:?}", &bytes[..5]);
        assert_eq!(told.first() == Some(&0x15), is_told, "{fault:?} for {:?}: {told:?}", &bytes[..9]);
    }
}

#[test]
fn a_hello_of_one_byte_a_second_is_cut_off_at_the_deadline() {
    let folder = Folder::new();
    let sides = Sides::new(&folder, TlsVersions::All, None);
    let mut world = world(&sides);
    let peer = Peer::connect(&mut world, &sides);
    let begin = world.elapsed();
    for byte in &peer.out {
        world.write(peer.id, &[*byte]);
        world.sleep(Duration::from_secs(1));
        if !world.handler().closed().is_empty() {
            break;
        }
    }
    assert_eq!(world.handler().closed(), [CloseReason::LimitExceeded(Limit::Handshake)]);
    let took = world.elapsed() - begin;
    assert!((10..13).contains(&took.as_secs()), "{took:?}");
    world.finish();
}

#[test]
fn a_record_of_one_byte_a_second_is_cut_off_and_silence_is_not() {
    let folder = Folder::new();
    for versions in [TlsVersions::Tls12, TlsVersions::Tls13] {
        let sides = Sides::new(&folder, versions, None);
        let mut world = world_with(&sides, Deadlines::none().read(Duration::from_secs(20)));
        let mut peer = Peer::connect(&mut world, &sides);
        peer.until(&mut world, |peer, world| !peer.layer.is_handshaking() && world.handler().opened == 1);
        peer.send(b"whole");
        peer.until(&mut world, |peer, _| peer.plain == b"whole");
        world.sleep(Duration::from_secs(100));
        assert_eq!(world.handler().closed(), [], "nothing has begun");
        peer.send(&[7; 200]);
        let begin = world.elapsed();
        for byte in std::mem::take(&mut peer.out) {
            world.write(peer.id, &[byte]);
            world.sleep(Duration::from_secs(1));
            if !world.handler().closed().is_empty() {
                break;
            }
        }
        assert_eq!(world.handler().closed(), [CloseReason::LimitExceeded(Limit::Read)]);
        let took = world.elapsed() - begin;
        assert!((20..24).contains(&took.as_secs()), "{took:?}");
        world.finish();
    }
}

#[test]
fn a_flood_of_key_updates_is_the_end() {
    let folder = Folder::new();
    let sides = Sides::new(&folder, TlsVersions::Tls13, None);
    let mut world = world(&sides);
    let peer = world.connect();
    let mut client = client(&folder);
    let mut updates = 0;
    let reason = end(&mut world, |world| {
        talk(world, peer, &mut client);
        if !client.is_handshaking() && updates < 40 {
            client.refresh_traffic_keys().expect("1.3 has key updates");
            updates += 1;
        }
    });
    assert_eq!(TlsFault::of(reason), Some(TlsFault::Misbehaved));
    assert!((32..=40).contains(&updates), "{updates} were taken");
    world.finish();
}

#[test]
fn a_few_key_updates_are_answered_and_nothing_is_lost() {
    let folder = Folder::new();
    let sides = Sides::new(&folder, TlsVersions::Tls13, None);
    let mut world = world(&sides);
    let peer = world.connect();
    let mut client = client(&folder);
    let (mut sent, mut got) = (0usize, Vec::new());
    for _ in 0..3_000 {
        talk(&mut world, peer, &mut client);
        let mut some = [0; 4096];
        while let Ok(count @ 1..) = client.reader().read(&mut some) {
            got.extend_from_slice(&some[..count]);
        }
        if !client.is_handshaking() && got.len() == sent && sent < 100 {
            client.refresh_traffic_keys().expect("1.3 has key updates");
            std::io::Write::write_all(&mut client.writer(), &[sent as u8]).expect("room");
            sent += 1;
        }
        world.sleep(Duration::from_millis(1));
    }
    assert_eq!(got, (0..100).collect::<Vec<u8>>());
    assert!(world.handler().closed().is_empty());
    world.finish();
}

#[test]
fn a_broken_record_behind_our_own_end_harms_one_connection() {
    let folder = Folder::new();
    let sides = Sides::new(&folder, TlsVersions::All, None);
    let mut world = world(&sides);
    let mut peer = Peer::connect(&mut world, &sides);
    let mut is_broken = false;
    let reason = end(&mut world, |world| {
        if world.handler().opened == 1 && !is_broken {
            is_broken = true;
            world.act(|echo, cx| cx.shutdown_write(echo.last.expect("it is open")));
            peer.out.extend_from_slice(&[0x17, 3, 3, 0, 32]);
            peer.out.extend_from_slice(&[7; 32]);
        }
        peer.pump(world, usize::MAX, usize::MAX);
    });
    // With debug assertions, rustls panics over it, and that is where it ends.
    assert!(matches!(reason, CloseReason::LayerFailed(_)), "{reason:?}");
    assert!(cfg!(debug_assertions) || TlsFault::of(reason) == Some(TlsFault::Undecipherable));
    let mut other = Peer::connect(&mut world, &sides);
    for _ in 0..200 {
        if !other.layer.is_handshaking() && world.handler().opened == 2 && other.plain.is_empty() {
            other.send(b"undisturbed");
        }
        other.pump(&mut world, usize::MAX, usize::MAX);
        world.sleep(Duration::from_millis(1));
    }
    assert!(other.plain.starts_with(b"undisturbed"));
    world.finish();
}

/// A client with buffers of its own.
fn client(folder: &Folder) -> ClientConnection {
    use rustls::pki_types::pem::PemObject;
    let mut roots = RootCertStore::empty();
    let root = rustls::pki_types::CertificateDer::from_pem_file(folder.file("ca.pem")).expect("a file");
    roots.add(root).expect("a root");
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("a version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("server.test").expect("a name");
    ClientConnection::new(Arc::new(config), name).expect("a client")
}

/// Writes and reads what there is.
fn talk(world: &mut World<Echo>, peer: ringline_core::testing::PeerId, client: &mut ClientConnection) {
    let mut out = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut out).expect("memory takes all");
    }
    let mut rest = &out[..];
    while !rest.is_empty() {
        let written = world.write(peer, rest);
        if written == 0 {
            return;
        }
        rest = &rest[written..];
    }
    let wire = world.read(peer, usize::MAX);
    let mut rest = &wire[..];
    while !rest.is_empty() {
        client.read_tls(&mut rest).expect("memory gives all");
        // What the server says about floods is for other tests.
        let _ = client.process_new_packets();
    }
}

#[test]
fn a_peer_that_never_reads_is_bounded_while_it_asks() {
    // Everything that a layer says by itself is bounded by the core; that TLS does not say much is shown here.
    let folder = Folder::new();
    let sides = Sides::new(&folder, TlsVersions::Tls13, None);
    let mut layer = sides.server.layer().expect("a server");
    let mut wire = Vec::new();
    let garbage = [0x16, 3, 1, 0, 1, 1].repeat(20_000);
    let mut plain = Vec::new();
    let mut failed = None;
    for bytes in garbage.chunks(1000) {
        if let Err(error) = layer.read(&mut bytes.to_vec(), &mut plain, &mut wire) {
            failed = Some(error);
            break;
        }
    }
    assert!(failed.and_then(TlsFault::from_layer).is_some(), "it is not waited for for ever");
    assert!(wire.len() < 100 && plain.is_empty());
}
