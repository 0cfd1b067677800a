//! Bytes that stay the sender's: the kernel reads them where they are.
//!
//! A [`Guard`] keeps the owner of such bytes alive, whatever its type, and drops it exactly once. A
//! panic in that drop goes no further. Owners of up to four words need no allocation.
#![allow(unsafe_code)]

use std::any::Any;
use std::fmt;
use std::mem::{self, MaybeUninit};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// An owner of bytes that can be sent without being copied.
///
/// The framework keeps the guard until the kernel has no more use for the bytes: for a zero-copy
/// send that is when the peer has acknowledged them, which can be after the connection is gone for
/// its handler's purposes but is always before [`on_close`](crate::EventHandler::on_close). Then the
/// guard is dropped, on the worker's thread; its drop must not block, and if it panics, the panic is
/// logged and goes no further.
///
/// Implemented for `&'static [u8]`, `&'static str`, `Vec<u8>`, `String`, `Box<[u8]>`, `Arc<[u8]>` and
/// [`bytes::Bytes`].
///
/// # Safety
///
/// As long as a guard is only moved and asked for its [`bytes`](Self::bytes), until it is dropped, or for
/// ever if it is leaked,
///
/// - every call returns the same slice, of the same length, and it stays valid wherever the guard
///   itself is moved: it may not point into the guard;
/// - nobody writes to those bytes, not even through a cell or from another thread: the kernel reads
///   them at any time.
///
/// Who gets a guard back because it was not accepted may do with it as they like.
///
/// # Examples
///
/// A part of a buffer that several connections share:
///
/// ```
/// use ringline_core::SendGuard;
/// use std::ops::Range;
/// use std::sync::Arc;
///
/// struct Part {
///     whole: Arc<[u8]>,
///     range: Range<usize>,
/// }
///
/// // SAFETY: the bytes are on the heap, behind an `Arc` that this guard keeps alive, and nobody can
/// // write to them because they are shared.
/// unsafe impl SendGuard for Part {
///     fn bytes(&self) -> &[u8] {
///         &self.whole[self.range.clone()]
///     }
/// }
/// ```
pub unsafe trait SendGuard: 'static {
    /// The bytes to send.
    fn bytes(&self) -> &[u8];
}

// SAFETY: static memory stays where it is and is not written.
unsafe impl SendGuard for &'static [u8] {
    fn bytes(&self) -> &[u8] {
        self
    }
}

// SAFETY: static memory stays where it is and is not written.
unsafe impl SendGuard for &'static str {
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

// SAFETY: the bytes are on the heap, and only the owner, which is the guard itself, could write them.
unsafe impl SendGuard for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }
}

// SAFETY: the bytes are on the heap, and only the owner, which is the guard itself, could write them.
unsafe impl SendGuard for String {
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

// SAFETY: the bytes are on the heap, and only the owner, which is the guard itself, could write them.
unsafe impl SendGuard for Box<[u8]> {
    fn bytes(&self) -> &[u8] {
        self
    }
}

// SAFETY: the bytes are on the heap and live as long as this reference; `Arc::get_mut` gives nobody
// access while the guard holds one.
unsafe impl SendGuard for Arc<[u8]> {
    fn bytes(&self) -> &[u8] {
        self
    }
}

// SAFETY: the handle keeps the memory that it refers to alive and in place, and nobody can write it.
unsafe impl SendGuard for bytes::Bytes {
    fn bytes(&self) -> &[u8] {
        self
    }
}

/// Room for an owner of up to four words, or for the box of a larger one.
type Storage = MaybeUninit<[*const (); 4]>;

/// A guard whose type is forgotten.
pub(crate) struct Guard {
    start: *const u8,
    len: usize,
    storage: Storage,
    drop: unsafe fn(*mut Storage),
}

impl Guard {
    pub(crate) fn new<G: SendGuard>(guard: G) -> Self {
        if fits::<G>() { Self::hold(guard) } else { Self::hold(Boxed(Box::new(guard))) }
    }

    /// The bytes.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the owner in `storage` promised with its `unsafe impl` that its slice stays valid
        // and unwritten until it is dropped, which only the drop of `self` does.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn hold<G: SendGuard>(guard: G) -> Self {
        assert!(fits::<G>(), "larger owners are boxed");
        let mut storage = Storage::uninit();
        // SAFETY: the storage is large enough and aligned for a `G`, as just checked. From here on it
        // is moved as plain memory only, so the slice is taken from the guard's last place as a `G`.
        let bytes = unsafe {
            let place = storage.as_mut_ptr().cast::<G>();
            place.write(guard);
            (*place).bytes()
        };
        let (start, len) = (bytes.as_ptr(), bytes.len());
        Self { start, len, storage, drop: drop_in_place::<G> }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let storage = &raw mut self.storage;
        // SAFETY: `hold` put an owner of the type into the storage that `drop` was made for, and a
        // drop runs once.
        let dropped = catch_unwind(AssertUnwindSafe(|| unsafe { (self.drop)(storage) }));
        if let Err(payload) = dropped {
            drop_carefully(payload);
            // The program's logger is not to be trusted any more than its guards.
            if let Err(payload) = catch_unwind(|| log::error!("the drop of a send guard panicked")) {
                drop_carefully(payload);
            }
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("len", &self.len).finish_non_exhaustive()
    }
}

/// An owner that is too large to be held itself.
struct Boxed<G>(Box<G>);

// SAFETY: the boxed guard has promised it for its bytes, and it does not even move with this.
unsafe impl<G: SendGuard> SendGuard for Boxed<G> {
    fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// What somebody panicked with may panic once more when it is dropped.
#[cold]
pub(crate) fn drop_carefully(payload: Box<dyn Any + Send>) {
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        mem::forget(another);
    }
}

const fn fits<G>() -> bool {
    size_of::<G>() <= size_of::<Storage>() && align_of::<G>() <= align_of::<Storage>()
}

/// # Safety
///
/// The storage holds a `G`, which is not used again.
unsafe fn drop_in_place<G>(storage: *mut Storage) {
    // SAFETY: the caller says so.
    unsafe { storage.cast::<G>().drop_in_place() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;

    /// Counts how often it is dropped; `N` words larger than it need be.
    struct Counted<const N: usize> {
        bytes: Vec<u8>,
        drops: Rc<Cell<u32>>,
        _ballast: [usize; N],
    }

    // SAFETY: the bytes are on the heap and belong to the guard.
    unsafe impl<const N: usize> SendGuard for Counted<N> {
        fn bytes(&self) -> &[u8] {
            &self.bytes
        }
    }

    impl<const N: usize> Drop for Counted<N> {
        fn drop(&mut self) {
            self.drops.set(self.drops.get() + 1);
        }
    }

    fn counted<const N: usize>() -> (Guard, Rc<Cell<u32>>) {
        let drops = Rc::new(Cell::new(0));
        let guard = Counted { bytes: b"counted".to_vec(), drops: Rc::clone(&drops), _ballast: [7; N] };
        (Guard::new(guard), drops)
    }

    #[test]
    fn small_and_large_owners_are_dropped_exactly_once_and_may_move() {
        for (guard, drops) in [counted::<0>(), counted::<1>(), counted::<100>()] {
            let moved = Box::new(Some(guard));
            assert_eq!(moved.as_ref().as_ref().unwrap().bytes(), b"counted");
            assert_eq!(drops.get(), 0);
            drop(moved);
            assert_eq!(drops.get(), 1);
        }
    }

    #[test]
    fn every_ready_made_owner_gives_its_bytes() {
        let guards = [
            Guard::new(b"bytes".as_slice()),
            Guard::new("bytes"),
            Guard::new(b"bytes".to_vec()),
            Guard::new(String::from("bytes")),
            Guard::new(b"bytes".to_vec().into_boxed_slice()),
            Guard::new(Arc::<[u8]>::from(b"bytes".as_slice())),
            Guard::new(bytes::Bytes::from_static(b"bytes")),
            Guard::new(bytes::Bytes::from(b"bytes".to_vec())),
        ];
        for guard in guards {
            assert_eq!(guard.bytes(), b"bytes");
            assert_eq!(guard.len(), 5);
        }
    }

    #[test]
    fn the_usual_owners_need_no_allocation() {
        assert!(fits::<&'static [u8]>() && fits::<Vec<u8>>() && fits::<Arc<[u8]>>());
        assert!(fits::<bytes::Bytes>() && fits::<Boxed<[u64; 100]>>());
        assert!(!fits::<[u64; 5]>());
    }

    #[test]
    fn a_panic_in_the_drop_goes_no_further() {
        struct Bomb;
        // SAFETY: static memory stays where it is and is not written.
        unsafe impl SendGuard for Bomb {
            fn bytes(&self) -> &[u8] {
                b"tick"
            }
        }
        impl Drop for Bomb {
            fn drop(&mut self) {
                std::panic::resume_unwind(Box::new("boom"));
            }
        }
        drop(Guard::new(Bomb));
    }
}
