//! An echo over TLS on ringline, one worker: `serve-ringline PORT CERT KEY`, or `serve-ringline PORT` without TLS.

use ringline_core::signal::ShutdownSignal;
use ringline_core::{Admit, Config, ConnId, Consumed, Ctx, EventHandler, Peer, SendError, Server};
use ringline_tls::{ListenTls, TlsConfig};
use std::error::Error;
use std::time::Duration;

struct Echo;

impl EventHandler for Echo {
    type Conn = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Accept(())
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        match cx.send(id, data) {
            Ok(_) => Consumed::all(data),
            // Too much is waiting to be sent: what is not consumed now is shown again later.
            Err(SendError::Full { .. } | SendError::WorkerFull { .. }) => Consumed::none(),
            Err(_) => {
                cx.abort(id);
                Consumed::none()
            }
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let given: Vec<_> = std::env::args().skip(1).collect();
    let signal = ShutdownSignal::install()?;
    let config = Config::builder().workers(1).pin(false).connections_per_worker(16_384).build()?;
    let server = Server::new(config);
    let server = match &given[..] {
        [port] => server.listen(format!("127.0.0.1:{port}"))?,
        [port, certificate, key] => {
            let tls = TlsConfig::from_pem_files(certificate, key)?;
            server.listen_tls(format!("127.0.0.1:{port}"), &tls)?
        }
        _ => return Err("usage: serve-ringline PORT [CERT KEY]".into()),
    };
    server.launch(|_| Echo)?.run_until(signal, Duration::from_secs(1))?;
    Ok(())
}
