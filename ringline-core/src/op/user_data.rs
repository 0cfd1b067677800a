//! The 64 bits that travel with an operation: kind (8), generation (24), row (32).
//!
//! The kind names the table, the row names the row in it; state lives in the row, never here. There
//! is one constructor, so a cancel always reproduces the bits of its target.

/// Which table an operation belongs to, and which of its row's operations it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Row of the worker's accept table.
    Accept = 1,
    /// Row of the connection table, as are the next five, `Reset`, `Connect` and `CancelConnect`.
    Recv = 2,
    Send = 3,
    Shutdown = 4,
    Close = 5,
    CancelRecv = 6,
    CancelSend = 7,
    /// Row of the worker's accept table.
    CancelAccept = 8,
    /// Row of the worker's list of sockets that never became connections.
    Orphan = 9,
    /// Row of a backend's own staged sends; never leaves a backend.
    Staged = 10,
    /// The worker's wake-up; never leaves a backend except as `Tag` with row 0.
    Wake = 11,
    Reset = 12,
    /// Row of a backend's own parcels in flight; never leaves a backend.
    Parcel = 13,
    Connect = 14,
    CancelConnect = 15,
    /// Row of the connection table.
    SetOption = 16,
    /// Row of the table of datagram sockets, as is `CancelUdpRecv`.
    UdpRecv = 17,
    /// Row of the table of datagrams in flight, as is `CancelUdpSend`.
    UdpSend = 18,
    CancelUdpRecv = 19,
    CancelUdpSend = 20,
    /// Row of the worker's table of children, as is the next.
    Child = 21,
    CancelChild = 22,
    /// Row of the connection table: a receive that tells the time.
    RecvStamped = 23,
    /// Row of the connection table.
    Peek = 24,
}

impl Kind {
    /// Written out so that it compiles to a comparison.
    #[inline]
    const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Accept,
            2 => Self::Recv,
            3 => Self::Send,
            4 => Self::Shutdown,
            5 => Self::Close,
            6 => Self::CancelRecv,
            7 => Self::CancelSend,
            8 => Self::CancelAccept,
            9 => Self::Orphan,
            10 => Self::Staged,
            11 => Self::Wake,
            12 => Self::Reset,
            13 => Self::Parcel,
            14 => Self::Connect,
            15 => Self::CancelConnect,
            16 => Self::SetOption,
            17 => Self::UdpRecv,
            18 => Self::UdpSend,
            19 => Self::CancelUdpRecv,
            20 => Self::CancelUdpSend,
            21 => Self::Child,
            22 => Self::CancelChild,
            23 => Self::RecvStamped,
            24 => Self::Peek,
            _ => return None,
        })
    }
}

/// A decoded [`UserData`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tag {
    pub(crate) kind: Kind,
    /// The low 24 bits of the row's generation.
    pub(crate) generation: u32,
    pub(crate) row: u32,
}

/// An encoded [`Tag`], as the kernel carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct UserData(u64);

impl UserData {
    /// How much of a generation travels with an operation.
    pub(crate) const GENERATION_MASK: u32 = (1 << 24) - 1;

    /// The bits for an operation of `row`; of `generation`, the low 24 bits.
    #[inline]
    pub(crate) const fn new(kind: Kind, generation: u32, row: u32) -> Self {
        let generation = (generation & Self::GENERATION_MASK) as u64;
        Self((kind as u64) << 56 | generation << 32 | row as u64)
    }

    /// What the kernel handed back. Only a backend calls this.
    #[inline]
    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    #[inline]
    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    /// `None` for bits that [`UserData::new`] never made.
    #[inline]
    pub(crate) fn decode(self) -> Option<Tag> {
        let kind = Kind::from_number((self.0 >> 56) as u8)?;
        Some(Tag::new(kind, (self.0 >> 32) as u32, self.0 as u32))
    }

    /// `None` for bits of another kind.
    #[inline]
    pub(crate) fn decode_as(self, kind: Kind) -> Option<Tag> {
        let is_it = (self.0 >> 56) as u8 == kind as u8;
        is_it.then(|| Tag::new(kind, (self.0 >> 32) as u32, self.0 as u32))
    }
}

impl Tag {
    /// An operation of `row`; of `generation`, the low 24 bits count.
    #[inline]
    pub(crate) const fn new(kind: Kind, generation: u32, row: u32) -> Self {
        Self { kind, generation: generation & UserData::GENERATION_MASK, row }
    }

    /// The bits again, for instance to name this operation in a cancel.
    #[inline]
    pub(crate) const fn encode(self) -> UserData {
        UserData::new(self.kind, self.generation, self.row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Kind {
        const ALL: [Self; 24] = [
            Self::Accept,
            Self::Recv,
            Self::Send,
            Self::Shutdown,
            Self::Close,
            Self::CancelRecv,
            Self::CancelSend,
            Self::CancelAccept,
            Self::Orphan,
            Self::Staged,
            Self::Wake,
            Self::Reset,
            Self::Parcel,
            Self::Connect,
            Self::CancelConnect,
            Self::SetOption,
            Self::UdpRecv,
            Self::UdpSend,
            Self::CancelUdpRecv,
            Self::CancelUdpSend,
            Self::Child,
            Self::CancelChild,
            Self::RecvStamped,
            Self::Peek,
        ];
    }

    proptest! {
        #[test]
        fn every_tag_survives_the_round_trip(at in 0..Kind::ALL.len(), generation: u32, row: u32) {
            let kind = Kind::ALL[at];
            let tag = UserData::new(kind, generation, row).decode().unwrap();
            prop_assert_eq!(tag, Tag { kind, generation: generation & UserData::GENERATION_MASK, row });
            prop_assert_eq!(tag.encode(), UserData::new(kind, generation, row));
        }

        #[test]
        fn foreign_bits_decode_to_nothing_or_to_themselves(bits: u64) {
            if let Some(tag) = UserData::from_bits(bits).decode() {
                prop_assert_eq!(tag.encode().bits(), bits);
            } else {
                prop_assert!(!(1..=Kind::ALL.len() as u64).contains(&(bits >> 56)));
            }
        }
    }

    #[test]
    fn kinds_are_numbered_as_listed() {
        for (at, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, at + 1);
        }
    }
}
