//! The connections to one server.

use std::io::{self, Error, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

struct Conn {
    stream: TcpStream,
    /// Bytes that are to come back before all is quiet.
    owed: usize,
    /// Bytes of a message that has not arrived whole.
    part: usize,
}

pub(crate) struct Crowd {
    conns: Vec<Conn>,
    depth: usize,
    size: usize,
    /// What is sent, and room for what comes back.
    messages: Vec<u8>,
    received: Vec<u8>,
}

impl Crowd {
    pub(crate) fn connect(port: u16, connections: usize, depth: usize, size: usize) -> io::Result<Self> {
        let connect = |_| {
            let stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            Ok(Conn { stream, owed: 0, part: 0 })
        };
        let conns = (0..connections).map(connect).collect::<io::Result<_>>()?;
        Ok(Self { conns, depth, size, messages: vec![b'x'; depth * size], received: vec![0; depth * size] })
    }

    /// Keeps `depth` messages in flight on every connection for a while, then waits for what is owed, and returns how
    /// many came back.
    pub(crate) fn load(&mut self, time: Duration) -> io::Result<usize> {
        let end = Instant::now() + time;
        let mut requests = 0;
        for at in 0..self.conns.len() {
            self.send(at, self.depth)?;
        }
        let mut is_over = false;
        loop {
            is_over |= Instant::now() >= end;
            for at in 0..self.conns.len() {
                let came = self.receive(at)?;
                requests += came;
                if came > 0 && !is_over {
                    self.send(at, came)?;
                }
            }
            if is_over && self.conns.iter().all(|conn| conn.owed == 0) {
                return Ok(requests);
            }
        }
    }

    fn send(&mut self, at: usize, messages: usize) -> io::Result<()> {
        let conn = &mut self.conns[at];
        let bytes = &self.messages[..messages * self.size];
        // What is in flight fits into the buffers of a socket, unless depth and size are absurd.
        if (&conn.stream).write(bytes)? != bytes.len() {
            return Err(Error::other("more in flight than a socket takes"));
        }
        conn.owed += bytes.len();
        Ok(())
    }

    /// How many messages have come back whole.
    fn receive(&mut self, at: usize) -> io::Result<usize> {
        let conn = &mut self.conns[at];
        if conn.owed == 0 {
            return Ok(0);
        }
        let bytes = match (&conn.stream).read(&mut self.received) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error),
        };
        if bytes > conn.owed || self.received[..bytes] != self.messages[..bytes] {
            return Err(Error::other("not what was sent"));
        }
        conn.owed -= bytes;
        conn.part += bytes;
        let messages = conn.part / self.size;
        conn.part %= self.size;
        Ok(messages)
    }
}
