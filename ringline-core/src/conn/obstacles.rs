//! Why a connection is not read. All reasons lie in one word, so that asking whether there is any,
//! which happens several times for every message, is one comparison.

/// One reason not to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Obstacle {
    /// The handler paused reading.
    Paused = 1 << 0,
    /// Reading waits for the connection's own outbox to come down.
    Held = 1 << 1,
    /// Reading waits for room in the outboxes of the worker.
    Starved = 1 << 2,
    /// Reading waits for outboxes of other connections to come down.
    Feeding = 1 << 3,
    /// More is unread than the limit allows, but the handler is getting on with it.
    Stuffed = 1 << 4,
    /// The peer ended its direction: there is nothing more to read.
    Ended = 1 << 5,
    /// What arrives has to go through a layer first; it keeps nobody from reading.
    Layered = 1 << 6,
    /// The layer is not ready, and nothing is for the handler before it is.
    Securing = 1 << 7,
    /// The receive has missed the end of the peer's direction, or may have taken an error for it. It is
    /// armed anew to see for certain.
    Doubted = 1 << 8,
}

/// The reasons not to read a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Obstacles(u16);

impl Obstacles {
    /// What keeps bytes that have arrived from the handler.
    const DELIVERY: u16 = Obstacle::Paused as u16
        | Obstacle::Held as u16
        | Obstacle::Starved as u16
        | Obstacle::Feeding as u16
        | Obstacle::Securing as u16;

    /// What keeps the handler from seeing bytes where the backend has them.
    const PRESENTING: u16 = Self::DELIVERY | Obstacle::Layered as u16;

    /// What keeps nobody from receiving.
    const HARMLESS: u16 = Obstacle::Layered as u16 | Obstacle::Securing as u16;

    /// Puts an obstacle in the way. True if that is news.
    pub(crate) fn add(&mut self, obstacle: Obstacle) -> bool {
        let is_news = !self.has(obstacle);
        self.0 |= obstacle as u16;
        is_news
    }

    /// Takes an obstacle away. True if it was there.
    pub(crate) fn remove(&mut self, obstacle: Obstacle) -> bool {
        let was_there = self.has(obstacle);
        self.0 &= !(obstacle as u16);
        was_there
    }

    /// Puts an obstacle in the way or takes it away.
    pub(crate) fn set(&mut self, obstacle: Obstacle, is_there: bool) {
        if is_there {
            self.add(obstacle);
        } else {
            self.remove(obstacle);
        }
    }

    #[inline]
    pub(crate) fn has(self, obstacle: Obstacle) -> bool {
        self.0 & obstacle as u16 != 0
    }

    /// Whether nothing is in the way of receiving.
    #[inline]
    pub(crate) fn are_none(self) -> bool {
        self.0 & !Self::HARMLESS == 0
    }

    /// Whether the handler may see what has arrived.
    #[inline]
    pub(crate) fn let_deliver(self) -> bool {
        self.0 & Self::DELIVERY == 0
    }

    /// Whether the handler may see what has arrived where the backend has it.
    #[inline]
    pub(crate) fn let_present(self) -> bool {
        self.0 & Self::PRESENTING == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_obstacle_comes_and_goes_by_itself() {
        let all = [
            (Obstacle::Paused, false),
            (Obstacle::Held, false),
            (Obstacle::Starved, false),
            (Obstacle::Feeding, false),
            (Obstacle::Stuffed, true),
            (Obstacle::Ended, true),
            (Obstacle::Doubted, true),
        ];
        for (obstacle, delivers) in all {
            let mut obstacles = Obstacles::default();
            assert!(obstacles.are_none() && obstacles.let_deliver() && !obstacles.remove(obstacle));
            assert!(obstacles.add(obstacle) && !obstacles.add(obstacle));
            assert!(!obstacles.are_none());
            assert_eq!(obstacles.let_present(), delivers);
            assert_eq!(obstacles.let_deliver(), delivers, "{obstacle:?}");
            for (other, _) in all {
                assert_eq!(obstacles.has(other), other == obstacle);
            }
            assert!(obstacles.remove(obstacle) && obstacles.are_none());
        }
    }

    #[test]
    fn a_layer_keeps_nobody_from_receiving_and_the_handler_from_the_wire() {
        for (obstacle, delivers) in [(Obstacle::Layered, true), (Obstacle::Securing, false)] {
            let mut obstacles = Obstacles::default();
            assert!(obstacles.let_present() && obstacles.add(obstacle));
            assert!(obstacles.are_none() && !obstacles.let_present());
            assert_eq!(obstacles.let_deliver(), delivers);
        }
    }
}
