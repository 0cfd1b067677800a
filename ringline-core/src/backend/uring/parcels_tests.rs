//! Completions as the kernel posts them for links that ran, broke, and never ran.

use super::*;
use crate::buf::{Body, Guard};

const MORE: u32 = 1 << 1;
const NOTIFICATION: u32 = 1 << 3;

fn tag() -> Tag {
    UserData::new(Kind::Send, 5, 2).decode().expect("a tag")
}

fn chain(links: usize) -> Box<Parcel> {
    let mut parcel = Box::<Parcel>::default();
    for _ in 0..links {
        parcel.push(Piece::new(Body::Guard(Guard::new("a guard")), 1));
        parcel.end_link();
    }
    parcel.arrange(true);
    parcel
}

/// What a completion means, in short: whether the entry is done, with what the send is over, and whether
/// the memory is free.
type Short = (bool, Option<(usize, i32)>, bool);

/// Notes a completion of a link.
fn note(parcels: &mut Parcels, bits: UserData, result: i32, flags: u32) -> Option<Short> {
    let cqe = Cqe { user_data: bits.bits(), result, flags };
    let Note { is_done, over, is_free, .. } = parcels.note(bits.decode()?, cqe)?;
    Some((is_done, over, is_free))
}

fn lend(parcels: &mut Parcels, links: usize) -> Vec<UserData> {
    let (slot, count) = parcels.lend(tag(), chain(links), 0, |_| std::ptr::null());
    assert_eq!(count, links);
    (0..links).map(|at| bits(parcels.slots[slot as usize].generation, slot, at)).collect()
}

#[test]
fn a_notification_for_a_link_that_never_ran_frees_nothing() {
    let mut parcels = Parcels::new(true);
    let links = lend(&mut parcels, 3);
    let gone = -libc::ECANCELED;
    assert_eq!(note(&mut parcels, links[0], 3_586_155, MORE), Some((false, None, false)));
    assert_eq!(note(&mut parcels, links[1], gone, 0), Some((true, None, false)));
    let over = Some((3_586_155, libc::ECANCELED));
    assert_eq!(note(&mut parcels, links[2], gone, 0), Some((true, over, false)));
    assert_eq!(note(&mut parcels, links[1], 0, NOTIFICATION), None);
    assert_eq!(note(&mut parcels, links[2], 0, NOTIFICATION), None);
    assert_eq!(note(&mut parcels, links[0], 0, NOTIFICATION), Some((true, None, true)));
}

#[test]
fn a_late_notification_does_not_meet_the_next_parcel() {
    let mut parcels = Parcels::new(true);
    let first = lend(&mut parcels, 1)[0];
    assert_eq!(note(&mut parcels, first, -libc::EINVAL, 0), Some((true, Some((0, libc::EINVAL)), true)));
    let transit = parcels.slots[0].transit.take();
    assert!(transit.is_some());
    parcels.slots[0].generation += 1;
    parcels.free.push(0);
    let second = lend(&mut parcels, 1)[0];
    assert_ne!(first, second);
    assert_eq!(note(&mut parcels, second, 7, MORE), Some((false, Some((7, 0)), false)));
    assert_eq!(note(&mut parcels, first, 0, NOTIFICATION), None, "it is for the one before");
    assert_eq!(note(&mut parcels, second, 0, NOTIFICATION), Some((true, None, true)));
}

#[test]
fn a_cancel_names_the_first_link_that_has_no_result() {
    let mut parcels = Parcels::new(true);
    let links = lend(&mut parcels, 2);
    assert_eq!(parcels.find(tag()), Some(links[0]));
    assert!(note(&mut parcels, links[0], 7, MORE).is_some());
    assert_eq!(parcels.find(tag()), Some(links[1]));
    assert!(note(&mut parcels, links[1], 7, MORE).is_some());
    assert_eq!(parcels.find(tag()), None, "the send is over, only its memory is missing");
}

#[test]
fn a_chain_that_the_kernel_takes_in_two_parts_has_failed() {
    for (position, errno) in [(0, 0), (1, libc::EIO), (2, libc::EIO), (3, 0)] {
        let mut parcels = Parcels::new(true);
        let links = lend(&mut parcels, 3);
        parcels.consumed(position);
        for link in &links[..2] {
            assert!(note(&mut parcels, *link, 7, 0).is_some());
        }
        assert_eq!(note(&mut parcels, links[2], 7, 0), Some((true, Some((21, errno)), true)));
    }
}
