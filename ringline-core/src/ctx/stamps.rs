//! When the kernel received the bytes of connections that are asked for it.
//!
//! A column of its own, empty as long as no listener wants it.

use super::Ctx;
use crate::conn::ConnId;
use crate::handler::EventHandler;
use std::time::{Duration, SystemTime};

/// The last time of each connection, with the connection that it is for.
#[derive(Debug, Default)]
pub(crate) struct Stamps {
    rows: Vec<Option<(ConnId, Duration)>>,
}

impl Stamps {
    /// Notes when bytes of a connection were received, since the beginning of 1970.
    pub(crate) fn note(&mut self, id: ConnId, received: Option<Duration>) {
        if self.rows.len() <= id.row() {
            self.rows.resize(id.row() + 1, None);
        }
        if let Some(received) = received {
            self.rows[id.row()] = Some((id, received));
        }
    }

    fn get(&self, id: ConnId) -> Option<Duration> {
        let (of, received) = (*self.rows.get(id.row())?)?;
        (of == id).then_some(received)
    }
}

impl<H: EventHandler> Ctx<'_, H> {
    /// When the kernel received the last of the bytes that have come on this connection. Known for
    /// connections of listeners that ask for it with
    /// [`ListenOptions::timestamps`](crate::net::ListenOptions::timestamps).
    ///
    /// A kernel begins to note times when a first socket on the host asks for them, and takes a moment to
    /// do so: bytes that arrive before have none.
    pub fn received_at(&self, id: ConnId) -> Option<SystemTime> {
        self.io.stamps.get(id).map(|since| SystemTime::UNIX_EPOCH + since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_not_that_of_the_next_connection_of_the_row() {
        let mut stamps = Stamps::default();
        let (first, next) = (ConnId { row: 3, generation: 1 }, ConnId { row: 3, generation: 2 });
        stamps.note(first, Some(Duration::from_secs(5)));
        stamps.note(first, None);
        assert_eq!((stamps.get(first), stamps.get(next)), (Some(Duration::from_secs(5)), None));
        assert_eq!(stamps.get(ConnId { row: 9, generation: 1 }), None);
    }
}
