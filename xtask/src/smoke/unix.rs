//! The same servers on Unix sockets: a path that is gone afterwards, and an abstract name.

use super::{ADDRESS_PLACE, STOP_LIMIT, Server, TALK_LIMIT};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};

const MESSAGE: &[u8] = b"hello over a Unix socket";

/// Has the command listen on a path and on an abstract name, and wants an echo from both.
pub(super) fn check(command: &[String]) -> Result<(), String> {
    let name = format!("ringline-smoke-{}", std::process::id());
    let path = std::env::temp_dir().join(&name);
    let by_path = SocketAddr::from_pathname(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let by_name = SocketAddr::from_abstract_name(&name).map_err(|error| format!("{name}: {error}"))?;
    for (given, address) in [(path.display().to_string(), by_path), (format!("@{name}"), by_name)] {
        let given = format!("unix:{given}");
        let command: Vec<String> = command.iter().map(|word| word.replace(ADDRESS_PLACE, &given)).collect();
        let mut server = Server::start(&command)?;
        server.wait_ready()?;
        echo(&address).map_err(|error| format!("{given}: {error}\n{}", server.output()))?;
        server.terminate()?;
        let status = server.wait(STOP_LIMIT)?;
        if !status.success() {
            return Err(format!("{given}: after SIGTERM: {status}\n{}", server.output()));
        }
    }
    if path.exists() { Err(format!("{} is still there", path.display())) } else { Ok(()) }
}

/// Sends bytes, ends, and wants the same bytes back and an end.
fn echo(address: &SocketAddr) -> std::io::Result<()> {
    let mut stream = UnixStream::connect_addr(address)?;
    stream.set_read_timeout(Some(TALK_LIMIT))?;
    stream.write_all(MESSAGE)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    if answer == MESSAGE { Ok(()) } else { Err(std::io::Error::other("the answer is not what was sent")) }
}
