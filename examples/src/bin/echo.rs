//! Echo: sends back whatever it receives.

use clap::Parser;
use ringline_core::{Admit, Config, ConnId, Consumed, Ctx, EventHandler, Peer, SendError};
use ringline_examples::{ServerArgs, exit, serve};
use std::process::ExitCode;

/// A server that sends back whatever it receives.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    server: ServerArgs,

    /// Send large pieces back from the buffers that they were received in, instead of copying them
    #[arg(long)]
    forward: bool,
}

struct Echo {
    forwards: bool,
}

impl EventHandler for Echo {
    type Conn = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Accept(())
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        let sent = if self.forwards { cx.forward(id, data) } else { cx.send(id, data) };
        match sent {
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

fn main() -> ExitCode {
    let cli = Cli::parse();
    exit(serve(&cli.server, Config::builder(), move |_seat| Echo { forwards: cli.forward }))
}
