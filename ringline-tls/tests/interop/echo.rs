//! A server that echoes and keeps a record of what its connections were and how they ended.

use ringline_core::{
    Admit, CloseReason, Config, ConfigBuilder, ConnId, Consumed, Ctx, EventHandler, Peer, Running, Server,
};
use ringline_tls::rustls::pki_types::CertificateDer;
use ringline_tls::{ListenTls, TlsConfig, TlsInfo};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// What happened to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Open {
        facts: String,
        alpn: Option<String>,
        name: Option<String>,
        certificates: Vec<CertificateDer<'static>>,
        resumed: bool,
    },
    Close(CloseReason),
}

pub(crate) struct Echo {
    events: Sender<Event>,
}

impl EventHandler for Echo {
    type Conn = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Accept(())
    }

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut ()) {
        let Some(tls) = cx.tls(id) else { return };
        let event = Event::Open {
            facts: format!("{tls:?}"),
            alpn: tls.alpn().map(|name| String::from_utf8_lossy(name).into_owned()),
            name: tls.server_name().map(ToString::to_string),
            certificates: tls.peer_certificates().to_vec(),
            resumed: tls.is_resumed(),
        };
        let _ = self.events.send(event);
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        match cx.send(id, data) {
            Ok(_) => Consumed::all(data),
            Err(_) => Consumed::none(),
        }
    }

    fn on_close(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): (), reason: CloseReason) {
        let _ = self.events.send(Event::Close(reason));
    }
}

/// A server that runs.
pub(crate) struct Service {
    pub(crate) running: Option<Running>,
    events: Receiver<Event>,
}

impl Service {
    pub(crate) fn start(tls: &TlsConfig) -> Self {
        Self::start_with(tls, Config::builder())
    }

    pub(crate) fn start_with(tls: &TlsConfig, config: ConfigBuilder) -> Self {
        Self::start_on(config, |server| server.listen_tls("127.0.0.1:0", tls).expect("a listener"))
    }

    /// With the listeners that `listen` adds.
    pub(crate) fn start_on(config: ConfigBuilder, listen: impl FnOnce(Server) -> Server) -> Self {
        let (sender, events) = channel();
        let sender = Mutex::new(sender);
        let config =
            config.workers(1).pin(false).linger(Duration::from_millis(200)).build().expect("a configuration");
        let server = listen(Server::new(config));
        let running = server
            .launch(move |_| Echo { events: sender.lock().expect("no panic holds it").clone() })
            .expect("a server");
        Self { running: Some(running), events }
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("it runs until it is dropped")
    }

    pub(crate) fn port(&self) -> u16 {
        self.addr().port()
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.running().local_addrs()[0]
    }

    pub(crate) fn metrics(&self) -> ringline_core::metrics::Snapshot {
        self.running().metrics().snapshot()
    }

    pub(crate) fn next(&self) -> Event {
        self.events.recv_timeout(PATIENCE).expect("something happens")
    }

    /// The end of the next connection that ends.
    pub(crate) fn closed(&self) -> CloseReason {
        loop {
            if let Event::Close(reason) = self.next() {
                return reason;
            }
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            let ended = running.shutdown(Duration::from_secs(10));
            if !std::thread::panicking() {
                ended.expect("the server ends in order");
            }
        }
    }
}
