//! Examples that are no servers: they end by themselves, and have to end well.

use super::{STOP_LIMIT, Server, TALK_LIMIT, UPSTREAM_PLACE};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;

/// Examples that are no servers, and what they are run with. They have to end well by themselves.
const CLIENTS: &[(&str, &[&str])] = &[
    ("fetch", &["--from", SITE_PLACE, "--connections", "20", "--workers", "2", "--expect", PAGE_PLACE]),
    ("loadgen", &[UPSTREAM_PLACE, "--requests", "1000", "--connections", "8"]),
];

/// Stands for the address of a server that answers every request with the page.
const SITE_PLACE: &str = "{site}";
/// Stands for a file that holds the page.
const PAGE_PLACE: &str = "{page}";
const PAGE: &str = "a page of one line\n";

/// What an example is run with, if it is no server.
pub(super) fn arguments(example: &str) -> Option<&'static [&'static str]> {
    CLIENTS.iter().find(|(client, _)| *client == example).map(|(_, arguments)| *arguments)
}

/// Runs a client by its command line.
pub(super) fn run(path: &str, arguments: &[&str], upstream: SocketAddr) -> Result<(), String> {
    let site = serve_page().map_err(|error| format!("no server behind it: {error}"))?;
    let page = std::env::temp_dir().join(format!("ringline-page-{}", std::process::id()));
    std::fs::write(&page, PAGE).map_err(|error| format!("{}: {error}", page.display()))?;
    let place = |argument: &&str| {
        let argument = argument.replace(UPSTREAM_PLACE, &upstream.to_string());
        argument.replace(SITE_PLACE, &site.to_string()).replace(PAGE_PLACE, &page.to_string_lossy())
    };
    let command: Vec<_> = std::iter::once(path.to_owned()).chain(arguments.iter().map(place)).collect();
    let mut client = Server::start(&command)?;
    let status = client.wait(TALK_LIMIT);
    let removed = std::fs::remove_file(&page).map_err(|error| format!("{}: {error}", page.display()));
    match status? {
        status if status.success() => removed,
        status => {
            // What it has said last may still be on its way through the pipes.
            while let Ok(line) = client.lines.recv_timeout(STOP_LIMIT) {
                client.seen.push(line);
            }
            Err(format!("{status}\n{}", client.output()))
        }
    }
}

/// A server in threads of this process that answers every request with the page. It ends with the process.
fn serve_page() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{PAGE}", PAGE.len());
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let answer = answer.clone();
            thread::spawn(move || {
                // The request is short and comes in one piece; what follows is the end.
                while stream.read(&mut [0; 4096])? > 0 {
                    stream.write_all(answer.as_bytes())?;
                }
                std::io::Result::Ok(())
            });
        }
    });
    Ok(address)
}
