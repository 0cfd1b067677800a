//! How one worker wakes another: a write to an eventfd that the other's ring watches, or a message from ring to ring.
//!
//!     cargo run --release --manifest-path bench/wake/Cargo.toml -- 100000
//!
//! Two threads with a ring each wake each other in turns, so every message finds its receiver asleep, which is the only
//! case in which the two ways differ. Prints CPU time of both threads per message, and how often the switch was made.

use io_uring::{EnterFlags, IoUring, opcode, types};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Barrier;
use std::sync::atomic::{AtomicI32, Ordering};

const WAKE: u64 = 1;
const MESSAGE: u64 = 2;

#[derive(Clone, Copy, PartialEq)]
enum Way {
    EventFd,
    MessageRing,
}

/// What the two threads know of each other.
struct Table {
    rings: [AtomicI32; 2],
    events: [RawFd; 2],
    ready: Barrier,
}

fn main() -> io::Result<()> {
    let rounds: u64 = std::env::args().nth(1).map_or(100_000, |text| text.parse().expect("a number"));
    // In turns, so that a change of the host's speed falls on both.
    for _ in 0..5 {
        let [event, message] = [Way::EventFd, Way::MessageRing].map(|way| measure(way, rounds));
        let (event, message) = (event?, message?);
        println!("eventfd {event} ns, message ring {message} ns, ratio {:.2}", message as f64 / event as f64);
    }
    Ok(())
}

/// CPU nanoseconds of both threads per message.
fn measure(way: Way, rounds: u64) -> io::Result<u64> {
    let table = Table {
        rings: [AtomicI32::new(-1), AtomicI32::new(-1)],
        events: [event_fd()?, event_fd()?],
        ready: Barrier::new(2),
    };
    let used = std::thread::scope(|scope| {
        let threads = [0, 1].map(|own| {
            let table = &table;
            scope.spawn(move || take_turns(table, own, way, rounds))
        });
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum::<io::Result<u64>>()
    })?;
    for event in table.events {
        // SAFETY: nobody uses the descriptor any more.
        unsafe { libc::close(event) };
    }
    Ok(used / (2 * rounds))
}

/// One thread: waits for the other, then wakes it. Returns its CPU time.
fn take_turns(table: &Table, own: usize, way: Way, rounds: u64) -> io::Result<u64> {
    let mut ring: IoUring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(64)?;
    table.rings[own].store(ring.as_raw_fd(), Ordering::SeqCst);
    let watch = opcode::PollAdd::new(types::Fd(table.events[own]), libc::POLLIN as u32).multi(true);
    push(&mut ring, watch.build().user_data(WAKE));
    enter(&mut ring, 0)?;
    table.ready.wait();
    let other = types::Fd(table.rings[1 - own].load(Ordering::SeqCst));
    let begin = cpu_ns();
    for round in 0..rounds {
        if own == 0 || round > 0 {
            wake(&mut ring, table, own, other, way)?;
        }
        wait(&mut ring)?;
    }
    if own == 1 {
        wake(&mut ring, table, own, other, way)?;
        enter(&mut ring, 0)?;
    }
    let used = cpu_ns() - begin;
    table.ready.wait();
    Ok(used)
}

fn wake(ring: &mut IoUring, table: &Table, own: usize, other: types::Fd, way: Way) -> io::Result<()> {
    match way {
        Way::EventFd => {
            let one = 1_u64.to_ne_bytes();
            // SAFETY: the bytes are there for the time of the call.
            let wrote = unsafe { libc::write(table.events[1 - own], one.as_ptr().cast(), one.len()) };
            if wrote == 8 { Ok(()) } else { Err(io::Error::last_os_error()) }
        }
        Way::MessageRing => {
            let message = opcode::MsgRingData::new(other, 0, MESSAGE, None).build();
            push(ring, message.flags(io_uring::squeue::Flags::SKIP_SUCCESS));
            Ok(())
        }
    }
}

/// Submits what there is and waits for the other thread.
fn wait(ring: &mut IoUring) -> io::Result<()> {
    loop {
        enter(ring, 1)?;
        if ring.completion().count() > 0 {
            return Ok(());
        }
    }
}

fn enter(ring: &mut IoUring, wanted: u32) -> io::Result<()> {
    let queued = ring.submission().len() as u32;
    // SAFETY: no argument is passed, and the entries name no memory.
    let entered = unsafe {
        ring.submitter().enter::<libc::sigset_t>(queued, wanted, EnterFlags::GETEVENTS.bits(), None)
    };
    match entered {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

fn push(ring: &mut IoUring, entry: io_uring::squeue::Entry) {
    // SAFETY: the entries of this program name no memory.
    unsafe { ring.submission().push(&entry) }.expect("the queue is short and empty");
}

fn event_fd() -> io::Result<RawFd> {
    // SAFETY: the call takes no pointers.
    let event = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if event < 0 { Err(io::Error::last_os_error()) } else { Ok(event) }
}

fn cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live value of the right type.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
