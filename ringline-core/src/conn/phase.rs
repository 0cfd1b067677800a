//! The life of a connection as a table of transitions.
//!
//! A phase changes only by [`Phase::on`], and only as the table says. `docs/states.md` shows the
//! same table as a drawing; a test keeps the two equal.

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The handler is being asked whether it wants the connection.
    Arriving,
    /// The handler has asked for the connection, and the peer has not answered yet.
    Connecting,
    /// There is a connection, and its layer has yet to agree with the peer's.
    Handshaking,
    /// Both directions serve the handler.
    Open,
    /// A close was asked for; what is queued goes out first.
    Flushing,
    /// Everything is out and our direction has ended; the peer gets time to end its own, so that a
    /// reset cannot overtake what it has not read yet.
    Lingering,
    /// Waiting until every operation in flight has come home.
    Joining,
    /// The descriptor is being closed.
    Closing,
    /// Over; the row goes back to the table.
    Closed,
}

/// What moves a connection on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PhaseEvent {
    /// The handler took the connection.
    Admitted,
    /// The peer has answered.
    Connected,
    /// The handler took the connection, or the peer has answered, and there is a layer.
    LayerBegun,
    /// The layer has agreed with the peer's.
    LayerReady,
    /// The handler, the peer's end or the server's end asks for an orderly close.
    CloseAsked,
    /// Nothing is queued any more, and the peer may still be talking.
    Flushed,
    /// Nothing is queued any more, and the peer has ended, or nobody wants to wait for it.
    Finished,
    /// The connection ends at once: an error, a limit, an abort.
    Terminated,
    /// Nothing is in flight any more.
    Joined,
    /// The descriptor is gone.
    Released,
}

/// Every transition there is: (event, from, to).
pub(crate) const TRANSITIONS: &[(PhaseEvent, Phase, Phase)] = &[
    (PhaseEvent::Admitted, Phase::Arriving, Phase::Open),
    (PhaseEvent::Terminated, Phase::Arriving, Phase::Joining),
    (PhaseEvent::Connected, Phase::Connecting, Phase::Open),
    (PhaseEvent::Terminated, Phase::Connecting, Phase::Joining),
    (PhaseEvent::LayerBegun, Phase::Arriving, Phase::Handshaking),
    (PhaseEvent::LayerBegun, Phase::Connecting, Phase::Handshaking),
    (PhaseEvent::LayerReady, Phase::Handshaking, Phase::Open),
    (PhaseEvent::CloseAsked, Phase::Handshaking, Phase::Flushing),
    (PhaseEvent::Terminated, Phase::Handshaking, Phase::Joining),
    (PhaseEvent::CloseAsked, Phase::Open, Phase::Flushing),
    (PhaseEvent::Terminated, Phase::Open, Phase::Joining),
    (PhaseEvent::Flushed, Phase::Flushing, Phase::Lingering),
    (PhaseEvent::Finished, Phase::Flushing, Phase::Joining),
    (PhaseEvent::Terminated, Phase::Flushing, Phase::Joining),
    (PhaseEvent::Finished, Phase::Lingering, Phase::Joining),
    (PhaseEvent::Terminated, Phase::Lingering, Phase::Joining),
    (PhaseEvent::Joined, Phase::Joining, Phase::Closing),
    (PhaseEvent::Released, Phase::Closing, Phase::Closed),
];

impl Phase {
    /// Moves on if the table knows the transition, and says whether it did.
    #[must_use]
    pub(crate) fn on(&mut self, event: PhaseEvent) -> bool {
        let found = TRANSITIONS.iter().find(|(on, from, _)| *on == event && *from == *self);
        if let Some((_, _, to)) = found {
            *self = *to;
        }
        found.is_some()
    }

    /// Whether the handler may still send.
    #[inline]
    pub(crate) fn takes_sends(self) -> bool {
        self == Self::Open
    }

    /// Whether what arrives is of use to a layer.
    #[inline]
    pub(crate) fn takes_layer(self) -> bool {
        matches!(self, Self::Handshaking | Self::Open)
    }

    /// Whether operations are still started for it.
    #[inline]
    pub(crate) fn is_active(self) -> bool {
        matches!(self, Self::Handshaking | Self::Open | Self::Flushing | Self::Lingering)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table as `docs/states.md` draws it.
    fn drawing() -> String {
        let line =
            |(event, from, to): &(PhaseEvent, Phase, Phase)| format!("    {from:?} --> {to:?}: {event:?}\n");
        let lines: Vec<_> = TRANSITIONS.iter().map(line).collect();
        format!(
            "stateDiagram-v2\n    [*] --> Arriving\n    [*] --> Connecting\n{}    Closed --> [*]\n",
            lines.concat()
        )
    }

    #[test]
    fn the_drawing_in_the_docs_is_this_table() {
        let page = include_str!("../../../docs/states.md");
        assert!(page.contains(&drawing()), "docs/states.md should contain:\n{}", drawing());
    }

    #[test]
    fn a_transition_is_unique_and_an_unknown_one_changes_nothing() {
        for (at, (event, from, _)) in TRANSITIONS.iter().enumerate() {
            let same = TRANSITIONS.iter().skip(at + 1).any(|(e, f, _)| e == event && f == from);
            assert!(!same, "{event:?} in {from:?} is listed twice");
        }
        let mut phase = Phase::Closing;
        assert!(!phase.on(PhaseEvent::Terminated));
        assert_eq!(phase, Phase::Closing);
        assert!(phase.on(PhaseEvent::Released));
        assert_eq!(phase, Phase::Closed);
    }

    #[test]
    fn every_phase_leads_to_the_end_and_nothing_leads_back() {
        let order = |phase: Phase| phase as u8;
        for (event, from, to) in TRANSITIONS {
            assert!(order(*to) > order(*from), "{event:?} leads back");
        }
        let early = [Phase::Arriving, Phase::Connecting, Phase::Handshaking];
        for phase in early.into_iter().chain([Phase::Open, Phase::Flushing, Phase::Lingering]) {
            assert!({ phase }.on(PhaseEvent::Terminated), "{phase:?} can be terminated");
        }
    }
}
