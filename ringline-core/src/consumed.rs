//! What `on_data` answers: how far it read and how much it wants before it is called again.

/// How much of the data a handler has dealt with.
///
/// # Examples
///
/// A message of four bytes of length and a body, of which only a part is there:
///
/// ```
/// use ringline_core::Consumed;
///
/// fn frames(data: &[u8]) -> Consumed {
///     let mut done = 0;
///     while let Some(head) = data[done..].first_chunk::<4>() {
///         let end = 4 + u32::from_be_bytes(*head) as usize;
///         if data.len() - done < end {
///             return Consumed::bytes(done).need(end);
///         }
///         done += end;
///     }
///     Consumed::bytes(done).need(4)
/// }
/// assert_eq!(frames(b"\0\0\0\x01a\0\0"), Consumed::bytes(5).need(4));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "what is not consumed is presented again"]
pub struct Consumed {
    pub(crate) bytes: usize,
    pub(crate) need: usize,
}

impl Consumed {
    /// Everything.
    #[inline]
    pub fn all(data: &[u8]) -> Self {
        Self::bytes(data.len())
    }

    /// Nothing yet; call again when more has arrived.
    #[inline]
    pub fn none() -> Self {
        Self::bytes(0)
    }

    /// The first `bytes` bytes. Claiming more than there are is a fault of the handler and ends
    /// the connection with [`HandlerPanicked`](crate::CloseReason::HandlerPanicked).
    #[inline]
    pub fn bytes(bytes: usize) -> Self {
        Self { bytes, need: 0 }
    }

    /// Do not call again before `bytes` bytes are unread, counted from the first one that is not
    /// consumed. This spares a parser from looking at an incomplete message over and over. More
    /// than [`inbox_bytes`](crate::ConfigBuilder::inbox_bytes) ends the connection with
    /// [`LimitExceeded`](crate::CloseReason::LimitExceeded).
    #[inline]
    pub fn need(self, bytes: usize) -> Self {
        Self { need: bytes, ..self }
    }
}
