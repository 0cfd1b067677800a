//! A load on servers that echo over TLS, and what it costs them. Prints one line of JSON.
//!
//! One thread with a core of its own that rather spins than sleeps, so no server pays for waking its client.

mod arguments;
mod certificate;
mod client;
mod crowd;
mod echo;
mod idle;
mod process;
mod storm;

use arguments::Arguments;

fn main() {
    let arguments = Arguments::from_command_line();
    let report = match arguments.mode.as_str() {
        "certificate" => certificate::write(&arguments.word("dir")),
        "echo" => echo::run(&arguments),
        "idle" => idle::run(&arguments),
        "storm" => storm::run(&arguments),
        mode => panic!("no mode is called {mode}; there are certificate, echo, idle and storm"),
    };
    println!("{{{report}}}");
}
