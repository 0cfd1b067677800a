//! Memory that operations in flight own.
//!
//! What the kernel may write can be neither read nor freed, and what it reads not be freed, before the
//! operation's last completion: only a [`Final`] gives it back, and only `lift` makes one. A
//! completion that never comes leaks.
#![allow(unsafe_code)]

use super::lift::Final;
use super::parcels::Load;
use crate::net::{Addr, Setting};
use crate::sys::sock_addr;
use socket2::SockAddr;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// Something the kernel has. Dropping it leaks.
pub(super) struct Lent<T>(ManuallyDrop<T>);

impl<T> fmt::Debug for Lent<T> {
    /// Does not look at what is lent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lent")
    }
}

impl<T> Lent<T> {
    pub(super) fn new(value: T) -> Self {
        Self(ManuallyDrop::new(value))
    }

    pub(super) fn reclaim(self, _: Final) -> T {
        ManuallyDrop::into_inner(self.0)
    }
}

impl Lent<Box<Load>> {
    /// To be looked at only, as the kernel does with it, too.
    pub(super) fn peek(&self) -> &Load {
        &self.0
    }
}

#[derive(Clone, Copy)]
#[repr(C)]
struct RawAddress {
    storage: libc::sockaddr_storage,
    len: libc::socklen_t,
    /// The kernel does not know of this field.
    is_unix: bool,
}

/// Where the kernel writes a peer's address: a heap cell that stays in place.
#[derive(Debug)]
pub(super) struct AddressCell(NonNull<RawAddress>);

impl AddressCell {
    fn new() -> Self {
        // SAFETY: all zeros is a valid value of all fields.
        let raw: RawAddress = unsafe { std::mem::zeroed() };
        Self(NonNull::from(Box::leak(Box::new(raw))))
    }

    /// Ready for the kernel: the storage and the cell that says how long it is.
    fn offer(&mut self, is_unix: bool) -> (*mut libc::sockaddr, *mut libc::socklen_t) {
        let raw = self.0.as_ptr();
        // SAFETY: the cell is ours until it is lent, and no reference to it exists.
        unsafe {
            (*raw).is_unix = is_unix;
            (*raw).len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            ((&raw mut (*raw).storage).cast(), &raw mut (*raw).len)
        }
    }

    /// What the kernel wrote, and what was said about the listener.
    fn read(&self) -> (Option<Addr>, bool) {
        // SAFETY: the cell was reclaimed with a `Final`, so the kernel is done with it.
        let raw = unsafe { *self.0.as_ptr() };
        (sock_addr::from_raw(&raw.storage, raw.len), raw.is_unix)
    }
}

impl Drop for AddressCell {
    fn drop(&mut self) {
        // SAFETY: the cell came from a leaked box, and a lent one is never dropped.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// What the kernel has been lent by the row of the operation, and how much is in flight at all.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    accepts: Vec<Option<Lent<AddressCell>>>,
    spare_cells: Vec<AddressCell>,
    connects: Vec<Option<Lent<Box<SockAddr>>>>,
    settings: Vec<Option<Lent<Box<Setting>>>>,
    /// Options of ordinary descriptors that the kernel has refused, by the rows of their operations.
    refusals: Vec<(u32, i32)>,
    live: usize,
}

impl InFlight {
    /// An operation was pushed that will complete.
    #[inline]
    pub(super) fn begin(&mut self) {
        self.live += 1;
    }

    /// An operation has completed for the last time.
    #[inline]
    pub(super) fn end(&mut self) {
        self.live -= 1;
    }

    /// How many operations have not completed for the last time.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// Lends a cell for the address that the accept of `row` will bring.
    pub(super) fn lend_address(
        &mut self,
        row: u32,
        is_unix: bool,
    ) -> (*mut libc::sockaddr, *mut libc::socklen_t) {
        let mut cell = self.spare_cells.pop().unwrap_or_else(AddressCell::new);
        let pointers = cell.offer(is_unix);
        lend(&mut self.accepts, row, cell);
        pointers
    }

    /// The address that an accept has brought, and whether its listener is a Unix socket.
    pub(super) fn reclaim_address(&mut self, row: u32, proof: Final) -> Option<(Option<Addr>, bool)> {
        let cell = self.accepts.get_mut(row as usize)?.take()?.reclaim(proof);
        let read = cell.read();
        self.spare_cells.push(cell);
        Some(read)
    }

    /// Lends the address that the connect of `row` is for, and says where it is and how long.
    pub(super) fn lend_target(
        &mut self,
        row: u32,
        address: &Addr,
    ) -> (*const libc::sockaddr, libc::socklen_t) {
        // The address is on the heap, so moving the box does not move it.
        let target = Box::new(address.to_sock_addr());
        let (start, len) = (target.as_ptr().cast(), target.len());
        lend(&mut self.connects, row, target);
        (start, len)
    }

    /// Frees the address of a connect that is over.
    pub(super) fn drop_target(&mut self, row: u32, proof: Final) {
        if let Some(target) = self.connects.get_mut(row as usize).and_then(Option::take) {
            drop(target.reclaim(proof));
        }
    }

    /// Lends the option that the operation of `row` sets, and says where its value is and how long.
    pub(super) fn lend_setting(&mut self, row: u32, setting: Box<Setting>) -> (*const libc::c_void, u32) {
        // The value is on the heap as well.
        let (start, len) = (setting.value.as_ptr().cast(), setting.value.len() as u32);
        lend(&mut self.settings, row, setting);
        (start, len)
    }

    /// The option was refused before its operation began.
    pub(super) fn refuse_setting(&mut self, row: u32, errno: i32) {
        self.refusals.push((row, errno));
    }

    /// Frees the value of an option, and says what it was refused with before its operation began.
    pub(super) fn end_setting(&mut self, row: u32, proof: Final) -> Option<i32> {
        if let Some(setting) = self.settings.get_mut(row as usize).and_then(Option::take) {
            drop(setting.reclaim(proof));
        }
        let at = self.refusals.iter().position(|(refused, _)| *refused == row)?;
        Some(self.refusals.swap_remove(at).1)
    }
}

/// At most one of a kind is in flight for a row.
pub(super) fn lend<T>(rows: &mut Vec<Option<Lent<T>>>, row: u32, value: T) {
    let row = row as usize;
    if rows.len() <= row {
        rows.resize_with(row + 1, || None);
    }
    assert!(rows[row].is_none(), "one operation of a kind in flight for a row");
    rows[row] = Some(Lent::new(value));
}
