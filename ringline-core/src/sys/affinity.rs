//! The CPUs a thread may run on.
//!
//! CPU numbers are those of the kernel. The mask is sized by asking, so machines with more than
//! 1024 CPUs work.
#![allow(unsafe_code)]

use std::io;

/// The CPUs that the calling thread may run on, in ascending order.
///
/// Threads inherit this set, so ask before the first thread is pinned.
pub(crate) fn allowed_cpus() -> io::Result<Vec<usize>> {
    let mut words = FIRST_MASK_WORDS;
    loop {
        let mut mask = vec![0; words];
        let mask_bytes = size_of_val(mask.as_slice());
        // SAFETY: `mask` is a live, writable buffer of `mask_bytes` bytes, aligned like the words
        // that `cpu_set_t` is made of; the kernel and the C library write no further than the size
        // they are given.
        let status = unsafe { libc::sched_getaffinity(0, mask_bytes, mask.as_mut_ptr().cast()) };
        if status == 0 {
            return Ok(cpus_of(&mask));
        }
        let error = io::Error::last_os_error();
        // The kernel says EINVAL while the mask is shorter than its own.
        let too_short = error.raw_os_error() == Some(libc::EINVAL);
        if !too_short || words * WORD_BITS >= CPUS_MAX {
            return Err(error);
        }
        words *= 2;
    }
}

/// Lets the calling thread run on `cpu` alone.
///
/// # Errors
///
/// `InvalidInput` when the CPU does not exist, is offline, or lies outside the process's cpuset.
pub(crate) fn pin_current_thread(cpu: usize) -> io::Result<()> {
    allow_current_thread(&[cpu])
}

/// Lets the calling thread run on these CPUs, which undoes a pinning that it was born with.
///
/// # Errors
///
/// `InvalidInput` when none of the CPUs exists, is online, and lies inside the process's cpuset.
pub(crate) fn allow_current_thread(cpus: &[usize]) -> io::Result<()> {
    if cpus.iter().any(|cpu| *cpu >= CPUS_MAX) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mask = mask_of(cpus);
    // SAFETY: `mask` is a live buffer of exactly the given size, aligned like the words that
    // `cpu_set_t` is made of; the call only reads it.
    let status = unsafe { libc::sched_setaffinity(0, size_of_val(mask.as_slice()), mask.as_ptr().cast()) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The numbers of the bits that are set.
fn cpus_of(mask: &[Word]) -> Vec<usize> {
    let bits = 0..mask.len() * WORD_BITS;
    bits.filter(|bit| mask[bit / WORD_BITS] >> (bit % WORD_BITS) & 1 == 1).collect()
}

/// The shortest mask, but not shorter than `cpu_set_t`, with the bits of `cpus` alone.
fn mask_of(cpus: &[usize]) -> Vec<Word> {
    let highest = cpus.iter().max().copied().unwrap_or(0);
    let mut mask = vec![0; FIRST_MASK_WORDS.max(highest / WORD_BITS + 1)];
    for cpu in cpus {
        mask[cpu / WORD_BITS] |= 1 << (cpu % WORD_BITS);
    }
    mask
}

/// The kernel lays CPU masks out as an array of these.
type Word = libc::c_ulong;

const WORD_BITS: usize = Word::BITS as usize;

/// As long as `cpu_set_t`, which is long enough for almost every machine.
const FIRST_MASK_WORDS: usize = size_of::<libc::cpu_set_t>() / size_of::<Word>();

/// Far above any kernel's `NR_CPUS`; bounds the search for the kernel's mask size.
const CPUS_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn allowed_cpus_are_those_the_kernel_reports() {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let mut reported = Vec::new();
        for range in line.unwrap().trim().split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            reported.extend(first.parse::<usize>().unwrap()..=last.parse().unwrap());
        }
        assert_eq!(allowed_cpus().unwrap(), reported);
    }

    #[test]
    fn a_pinned_thread_may_run_on_its_cpu_alone() {
        for cpu in allowed_cpus().unwrap() {
            let pinned = thread::spawn(move || {
                pin_current_thread(cpu).unwrap();
                allowed_cpus().unwrap()
            });
            assert_eq!(pinned.join().unwrap(), [cpu]);
        }
    }

    #[test]
    fn pinning_to_a_cpu_that_is_not_there_is_refused() {
        for cpu in [CPUS_MAX - 1, CPUS_MAX, usize::MAX] {
            let refusal = thread::spawn(move || pin_current_thread(cpu).unwrap_err());
            assert_eq!(refusal.join().unwrap().kind(), io::ErrorKind::InvalidInput, "CPU {cpu}");
        }
    }

    #[test]
    fn masks_reach_beyond_1024_cpus() {
        for cpu in [0, 63, 64, 1023, 1024, 4095] {
            let mask = mask_of(&[cpu]);
            assert!(mask.len() >= FIRST_MASK_WORDS);
            assert_eq!(cpus_of(&mask), [cpu]);
        }
    }
}
