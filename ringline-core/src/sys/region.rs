//! Page-aligned memory whose address may be given to the kernel.
//!
//! A mapping stays in place until its `Region` and the last `Anchor` of it are gone. Only the
//! `Region` turns bytes into references, and only the range asked for, so memory that the kernel is
//! using is never covered by a reference that exists for its neighbours.
//!
//! Two parties touch the bytes: the owner of the `Region`, and the kernel on behalf of operations
//! that name their address. Nothing here can see what the kernel is doing. The protocol is kept by
//! whoever submits such operations, which takes `unsafe`: it holds an `Anchor` until the last
//! completion of the operation, it never lets the kernel write a range that is borrowed from the
//! `Region`, and no range that the kernel may still write is borrowed, nor one that it may still
//! read borrowed mutably.
#![allow(unsafe_code)]

use std::io;
use std::ptr::{self, NonNull};
use std::rc::Rc;

/// The unique owner of the bytes of an anonymous private mapping.
///
/// The bytes are zero at first, and a page costs memory only once it is touched.
#[derive(Debug)]
pub(crate) struct Region {
    mapping: Rc<Mapping>,
}

/// Keeps the mapping of a [`Region`] in place without access to its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Anchor {
    mapping: Rc<Mapping>,
}

impl Region {
    /// Maps `bytes` bytes, rounded up to whole pages.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a size of zero or one that exceeds the address space, else what the
    /// kernel says.
    pub(crate) fn new(bytes: usize) -> io::Result<Self> {
        let mapping = Mapping::new(bytes)?;
        Ok(Self { mapping: Rc::new(mapping) })
    }

    /// The range of `len` bytes at `offset`, writable.
    ///
    /// The kernel must have no part of the range in use; see the head of this module.
    ///
    /// # Panics
    ///
    /// If the range does not lie inside the region.
    #[inline]
    pub(crate) fn slice_mut(&mut self, offset: usize, len: usize) -> &mut [u8] {
        let start = self.mapping.start_of(offset, len);
        // SAFETY: `start_of` has checked that the range lies in the mapping, which `self` keeps in
        // place for as long as the borrow lasts, and anonymous memory is initialised. No other
        // reference overlaps: a `Region` is never cloned, it alone makes references, and it is
        // borrowed mutably here. The submitter of operations guarantees that none in flight uses
        // the range.
        unsafe { std::slice::from_raw_parts_mut(start, len) }
    }

    /// The range of `len` bytes at `offset`.
    ///
    /// The kernel must not be about to write any part of the range; see the head of this module.
    ///
    /// # Panics
    ///
    /// If the range does not lie inside the region.
    #[inline]
    pub(crate) fn slice(&self, offset: usize, len: usize) -> &[u8] {
        let start = self.mapping.start_of(offset, len);
        // SAFETY: `start_of` has checked that the range lies in the mapping, which `self` keeps in
        // place for as long as the borrow lasts, and anonymous memory is initialised. A `&mut` to
        // any part of it would need `self` mutably. The submitter of operations guarantees that
        // none in flight writes the range.
        unsafe { std::slice::from_raw_parts(start, len) }
    }

    /// A handle that keeps the memory in place, for an operation that names its address.
    pub(crate) fn anchor(&self) -> Anchor {
        Anchor { mapping: Rc::clone(&self.mapping) }
    }

    /// The number of bytes, a multiple of the page size.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.mapping.len
    }
}

impl Anchor {
    /// Whether all of `bytes` lie in the mapping.
    #[inline]
    pub(crate) fn contains(&self, bytes: &[u8]) -> bool {
        let offset = bytes.as_ptr().addr().wrapping_sub(self.mapping.start.addr().get());
        offset <= self.mapping.len && bytes.len() <= self.mapping.len - offset
    }

    /// The address of the first byte; its provenance is exposed, because the kernel writes through
    /// it.
    pub(crate) fn address(&self) -> usize {
        self.mapping.start.as_ptr().expose_provenance()
    }

    /// The number of bytes, a multiple of the page size.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.mapping.len
    }
}

/// The size of a page in bytes, a power of two.
pub(crate) fn page_bytes() -> usize {
    // SAFETY: the call takes no pointers.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).expect("every system has a page size")
}

/// Pages that are ours until the drop.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    fn new(bytes: usize) -> io::Result<Self> {
        let len = bytes
            .checked_next_multiple_of(page_bytes())
            // No object of Rust may be larger than this.
            .filter(|len| isize::try_from(*len).is_ok())
            .ok_or(io::ErrorKind::InvalidInput)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: without MAP_FIXED the kernel chooses addresses that nothing uses yet.
        let address = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(address.cast()).expect("the kernel maps nothing at address zero");
        let mapping = Self { start, len };
        mapping.refuse_huge_pages()?;
        Ok(mapping)
    }

    /// Makes a touched page cost one page: a huge page would zero and hold two megabytes for the
    /// first byte of them.
    fn refuse_huge_pages(&self) -> io::Result<()> {
        // SAFETY: the range is exactly this mapping, and the advice does not change its bytes.
        let status = unsafe { libc::madvise(self.start.as_ptr().cast(), self.len, libc::MADV_NOHUGEPAGE) };
        if status == 0 {
            return Ok(());
        }
        match io::Error::last_os_error() {
            // A kernel that is built without huge pages does not know the advice and does not need
            // it.
            error if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            error => Err(error),
        }
    }

    /// A pointer to the byte at `offset`, which `len` bytes of the mapping follow.
    #[inline]
    fn start_of(&self, offset: usize, len: usize) -> *mut u8 {
        let fits = offset.checked_add(len).is_some_and(|end| end <= self.len);
        assert!(fits, "{len} bytes at {offset} reach beyond a region of {} bytes", self.len);
        // SAFETY: the offset is at most the length of the mapping, as just checked.
        unsafe { self.start.as_ptr().add(offset) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is exactly this mapping. Its owners are the region and the anchors, and
        // the last of them is going, so no reference to the bytes is left, and neither is an
        // operation that names them: its submitter would hold an anchor.
        let status = unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert_eq!(status, 0, "unmapping a whole mapping cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// How many pages of the region are in memory.
    fn resident_pages(region: &Region) -> usize {
        let mut pages = vec![0_u8; region.len() / page_bytes()];
        let start = region.mapping.start.as_ptr().cast();
        // SAFETY: the range is a live mapping, and `pages` has one byte for each of its pages.
        let status = unsafe { libc::mincore(start, region.len(), pages.as_mut_ptr()) };
        assert_eq!(status, 0, "{}", io::Error::last_os_error());
        pages.iter().filter(|&&page| page & 1 == 1).count()
    }

    #[test]
    fn size_is_rounded_up_to_pages() {
        let page = page_bytes();
        assert!(page.is_power_of_two());
        for (bytes, len) in [(1, page), (page, page), (page + 1, 2 * page)] {
            let region = Region::new(bytes).unwrap();
            assert_eq!(region.len(), len);
            assert_eq!(region.anchor().len(), len);
            assert_eq!(region.anchor().address() % page, 0);
        }
    }

    #[test]
    fn impossible_sizes_are_refused() {
        for bytes in [0, isize::MAX as usize + 1, usize::MAX] {
            let refusal = Region::new(bytes).unwrap_err();
            assert_eq!(refusal.kind(), io::ErrorKind::InvalidInput, "{bytes} bytes");
        }
    }

    #[test]
    fn a_touched_page_costs_one_page() {
        let mut region = Region::new(64 << 20).unwrap();
        assert_eq!(resident_pages(&region), 0);
        region.slice_mut(32 << 20, 1)[0] = 1;
        assert_eq!(resident_pages(&region), 1);
    }

    #[test]
    fn huge_pages_are_refused() {
        if !std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
            return;
        }
        let region = Region::new(4 << 20).unwrap();
        let address = region.anchor().address();
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut is_ours = false;
        let flags = maps.lines().find_map(|line| {
            // The head of a mapping reads like `7f00-7fff rw-p ...`, the lines below it like
            // `Name: ...`.
            let range = line.split(' ').next().and_then(|word| word.split_once('-'));
            let bound = |text| usize::from_str_radix(text, 16).ok();
            if let Some((first, end)) = range.and_then(|(a, b)| bound(a).zip(bound(b))) {
                is_ours = (first..end).contains(&address);
            }
            line.strip_prefix("VmFlags:").filter(|_| is_ours)
        });
        assert!(flags.unwrap().split(' ').any(|flag| flag == "nh"));
    }

    #[test]
    fn bytes_are_zero_at_first_and_then_what_was_written() {
        let mut region = Region::new(1).unwrap();
        let len = region.len();
        assert!(region.slice(0, len).iter().all(|&byte| byte == 0));
        region.slice_mut(len - 3, 3).copy_from_slice(b"end");
        assert_eq!(region.slice(len - 4, 4), b"\0end");
        assert_eq!(region.slice(len, 0), b"");
    }

    #[test]
    fn ranges_outside_are_refused() {
        let mut region = Region::new(1).unwrap();
        let size = region.len();
        for (offset, len) in [(0, size + 1), (size, 1), (size + 1, 0), (1, usize::MAX)] {
            let read = catch_unwind(AssertUnwindSafe(|| region.slice(offset, len).len()));
            assert!(read.is_err(), "{len} bytes at {offset}");
            let written = catch_unwind(AssertUnwindSafe(|| region.slice_mut(offset, len).len()));
            assert!(written.is_err(), "{len} bytes at {offset}");
        }
    }

    #[test]
    fn an_anchor_keeps_the_bytes_until_it_goes_too() {
        let mut region = Region::new(1).unwrap();
        region.slice_mut(0, 4).copy_from_slice(b"kept");
        let mapping = Rc::downgrade(&region.mapping);
        let first = region.anchor();
        let last = first.clone();
        drop(region);
        drop(first);

        let bytes = ptr::with_exposed_provenance::<[u8; 4]>(last.address());
        // SAFETY: `last` keeps the mapping in place, and its only writer is gone.
        assert_eq!(unsafe { bytes.read() }, *b"kept");

        assert_eq!(mapping.strong_count(), 1);
        drop(last);
        assert_eq!(mapping.strong_count(), 0);
    }

    /// Compiles only while neither type is `Send`: if one were, two implementations would fit and
    /// `_` could not be inferred.
    #[test]
    fn neither_type_leaves_its_thread() {
        trait Fits<Which> {
            fn check() {}
        }
        struct WhenSend;
        impl<T> Fits<()> for T {}
        impl<T: Send> Fits<WhenSend> for T {}
        <Region as Fits<_>>::check();
        <Anchor as Fits<_>>::check();
    }
}
