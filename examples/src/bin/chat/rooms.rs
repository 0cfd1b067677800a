//! Which of one worker's clients are in which rooms.
//!
//! Invariant: a room is here as long as somebody is in it, and nobody is in a room twice.

use std::collections::HashMap;
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct Rooms<C> {
    members: HashMap<Arc<str>, Vec<C>>,
}

impl<C: Copy + PartialEq> Rooms<C> {
    pub(crate) fn new() -> Self {
        Self { members: HashMap::new() }
    }

    /// Lets a client in; the name that comes back is the room's own.
    pub(crate) fn join(&mut self, room: &str, client: C) -> Arc<str> {
        let name = match self.members.get_key_value(room) {
            Some((name, _)) => Arc::clone(name),
            None => Arc::from(room),
        };
        let members = self.members.entry(Arc::clone(&name)).or_default();
        if !members.contains(&client) {
            members.push(client);
        }
        name
    }

    pub(crate) fn leave(&mut self, room: &str, client: C) {
        let Some(members) = self.members.get_mut(room) else { return };
        members.retain(|member| *member != client);
        if members.is_empty() {
            self.members.remove(room);
        }
    }

    pub(crate) fn members(&self, room: &str) -> &[C] {
        self.members.get(room).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_there_while_somebody_is_in_it() {
        let mut rooms = Rooms::new();
        assert_eq!(rooms.members("tea"), [0; 0]);
        let name = rooms.join("tea", 1);
        assert!(Arc::ptr_eq(&name, &rooms.join("tea", 2)));
        rooms.join("tea", 1);
        rooms.join("rum", 1);
        assert_eq!((rooms.members("tea"), rooms.members("rum")), (&[1, 2][..], &[1][..]));
        rooms.leave("tea", 1);
        rooms.leave("tea", 3);
        assert_eq!(rooms.members("tea"), [2]);
        rooms.leave("tea", 2);
        rooms.leave("rum", 1);
        assert!(rooms.members.is_empty());
    }
}
