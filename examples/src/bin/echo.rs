//! Echo: sends back whatever it receives.

use clap::Parser;
use ringline_core::{Admit, Config, ConnId, Consumed, Ctx, EventHandler, Peer};
use ringline_examples::{ServerArgs, exit, serve};
use std::process::ExitCode;

/// A TCP server that sends back whatever it receives.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    server: ServerArgs,
}

struct Echo;

impl EventHandler for Echo {
    type Conn = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Accept(())
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        // Reading pauses by itself while the peer does not read, so this fails only at a limit of
        // the whole worker.
        if cx.send(id, data).is_err() {
            cx.abort(id);
        }
        Consumed::all(data)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    exit(serve(&cli.server, Config::builder(), |_seat| Echo))
}
