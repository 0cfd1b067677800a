//! Which CPUs the workers run on.
//!
//! Workers get physical cores of their own first, then the further hardware threads of those cores,
//! and share a CPU only when there are more workers than CPUs. A CPU outside the allowed set is
//! never chosen. A machine that does not describe its cores is taken to have one for each CPU.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::str::FromStr;

/// Where the kernel describes the CPUs.
pub(crate) const CPU_ROOT: &str = "/sys/devices/system/cpu";

/// The CPU of each worker: `workers` of them, or none if no CPU is allowed.
///
/// `root` is the folder that describes the CPUs, [`CPU_ROOT`] on a real machine.
pub(crate) fn placement(workers: usize, allowed: &[usize], root: &Path) -> Vec<usize> {
    let order = by_rank(allowed, root).into_iter().map(|(_, cpu)| cpu);
    let order: Vec<usize> = order.collect();
    order.iter().copied().cycle().take(workers).collect()
}

/// One allowed CPU of each physical core, the lowest, in ascending order.
pub(crate) fn physical_cores(allowed: &[usize], root: &Path) -> Vec<usize> {
    by_rank(allowed, root).into_iter().take_while(|&(rank, _)| rank == 0).map(|(_, cpu)| cpu).collect()
}

/// Every allowed CPU once, with its rank among the allowed CPUs of its core, in the order in which
/// workers take them.
fn by_rank(allowed: &[usize], root: &Path) -> Vec<(usize, usize)> {
    let mut cpus = allowed.to_vec();
    cpus.sort_unstable();
    cpus.dedup();
    let mut seats_taken: BTreeMap<Core, usize> = BTreeMap::new();
    let mut ranked = Vec::with_capacity(cpus.len());
    for cpu in cpus {
        let taken = seats_taken.entry(Core::of(cpu, root)).or_default();
        ranked.push((*taken, cpu));
        *taken += 1;
    }
    ranked.sort_unstable();
    ranked
}

/// What tells physical cores apart.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Core {
    /// By the lowest CPU among its hardware threads, which is the same from wherever it is asked.
    Threads { lowest_cpu: usize },
    /// By its number in its package; numbers of cores repeat from package to package.
    Number { package: i64, core: i64 },
    /// A CPU that nothing is known about.
    Unknown { cpu: usize },
}

impl Core {
    fn of(cpu: usize, root: &Path) -> Self {
        let folder = root.join(format!("cpu{cpu}")).join("topology");
        if let Some(lowest_cpu) = lowest_thread(&folder, cpu) {
            return Self::Threads { lowest_cpu };
        }
        let package = read_number(&folder.join("physical_package_id"));
        match (package, read_number(&folder.join("core_id"))) {
            // The kernel writes -1 for what the hardware does not tell.
            (Some(package), Some(core)) if core >= 0 => Self::Number { package, core },
            _ => Self::Unknown { cpu },
        }
    }
}

/// The lowest CPU in the list of hardware threads that share a core with `cpu`.
///
/// `None` if there is no such list, or if it is no list of CPUs with `cpu` among them.
fn lowest_thread(folder: &Path, cpu: usize) -> Option<usize> {
    let siblings = fs::read_to_string(folder.join("thread_siblings_list")).ok()?;
    let mut lowest = None;
    let mut lists_itself = false;
    // A list reads like `0,64` or `0-3,8`.
    for range in siblings.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let first: usize = first.parse().ok()?;
        let last: usize = last.parse().ok()?;
        lists_itself |= (first..=last).contains(&cpu);
        lowest = Some(lowest.map_or(first, |lowest: usize| lowest.min(first)));
    }
    lowest.filter(|_| lists_itself)
}

fn read_number<T: FromStr>(path: &Path) -> Option<T> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::affinity;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A folder that describes CPUs like the kernel does, removed when dropped.
    struct FakeRoot(PathBuf);

    impl FakeRoot {
        fn new() -> Self {
            static COUNT: AtomicUsize = AtomicUsize::new(0);
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("ringline-topology-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn write(&self, cpu: usize, file: &str, text: &str) -> &Self {
            let folder = self.0.join(format!("cpu{cpu}/topology"));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(file), format!("{text}\n")).unwrap();
            self
        }

        /// Cores whose hardware threads are listed as in `threads`, for each CPU from 0.
        fn with_threads(threads: &[&str]) -> Self {
            let root = Self::new();
            for (cpu, list) in threads.iter().enumerate() {
                root.write(cpu, "thread_siblings_list", list);
            }
            root
        }

        fn cores(&self, allowed: &[usize]) -> Vec<usize> {
            physical_cores(allowed, &self.0)
        }

        fn placement(&self, workers: usize, allowed: &[usize]) -> Vec<usize> {
            placement(workers, allowed, &self.0)
        }
    }

    impl Drop for FakeRoot {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn cores_come_before_their_second_threads_then_cpus_are_shared() {
        // The two usual numberings: threads of a core are neighbours, or half the machine apart.
        let near = FakeRoot::with_threads(&["0-1", "0-1", "2-3", "2-3"]);
        assert_eq!(near.cores(&[0, 1, 2, 3]), [0, 2]);
        assert_eq!(near.placement(7, &[0, 1, 2, 3]), [0, 2, 1, 3, 0, 2, 1]);

        let far = FakeRoot::with_threads(&["0,2", "1,3", "2,0", "3,1"]);
        assert_eq!(far.cores(&[0, 1, 2, 3]), [0, 1]);
        assert_eq!(far.placement(5, &[0, 1, 2, 3]), [0, 1, 2, 3, 0]);
    }

    #[test]
    fn only_allowed_cpus_are_chosen() {
        let root = FakeRoot::with_threads(&["0-1", "0-1", "2-3", "2-3", "4-5", "4-5"]);
        // The lowest thread of two cores is not allowed, so the other one stands for its core.
        assert_eq!(root.cores(&[1, 3, 4, 5]), [1, 3, 4]);
        assert_eq!(root.placement(5, &[1, 3, 4, 5]), [1, 3, 4, 5, 1]);
        assert_eq!(root.placement(2, &[5, 4, 5, 4]), [4, 5]);
    }

    #[test]
    fn cores_with_four_threads_fill_evenly() {
        let root = FakeRoot::with_threads(&["0-3"; 4]);
        for cpu in 4..8 {
            root.write(cpu, "thread_siblings_list", "4-7");
        }
        let allowed: Vec<usize> = (0..8).collect();
        assert_eq!(root.placement(8, &allowed), [0, 4, 1, 5, 2, 6, 3, 7]);
    }

    #[test]
    fn numbers_of_cores_serve_where_threads_are_not_listed() {
        let root = FakeRoot::new();
        for (cpu, package, core) in [(0, "0", "0"), (1, "0", "0"), (2, "1", "0"), (3, "1", "1")] {
            root.write(cpu, "physical_package_id", package).write(cpu, "core_id", core);
        }
        assert_eq!(root.cores(&[0, 1, 2, 3]), [0, 2, 3]);
        assert_eq!(root.placement(4, &[0, 1, 2, 3]), [0, 2, 3, 1]);
    }

    #[test]
    fn a_cpu_without_a_readable_description_is_its_own_core() {
        let missing = FakeRoot::new();
        assert_eq!(missing.cores(&[2, 0, 1]), [0, 1, 2]);
        assert_eq!(placement(3, &[0, 1], Path::new("/nowhere")), [0, 1, 0]);

        let broken = FakeRoot::with_threads(&["", "one", "0-", "0-1", "18446744073709551616"]);
        assert_eq!(broken.cores(&[0, 1, 2, 3, 4]), [0, 1, 2, 3, 4]);

        let of_others = FakeRoot::with_threads(&["4-5", "4-5"]);
        assert_eq!(of_others.cores(&[0, 1]), [0, 1]);

        let unknown = FakeRoot::new();
        for cpu in 0..2 {
            unknown.write(cpu, "physical_package_id", "-1").write(cpu, "core_id", "-1");
        }
        assert_eq!(unknown.cores(&[0, 1]), [0, 1]);
    }

    #[test]
    fn no_workers_or_no_cpus_make_no_placement() {
        let root = FakeRoot::with_threads(&["0"]);
        assert_eq!(root.placement(0, &[0]), []);
        assert_eq!(root.placement(3, &[]), []);
    }

    #[test]
    fn on_this_machine_every_allowed_cpu_is_used_before_one_is_shared() {
        let allowed = affinity::allowed_cpus().unwrap();
        let root = Path::new(CPU_ROOT);
        let mut placed = placement(allowed.len(), &allowed, root);
        let cores = physical_cores(&allowed, root);
        assert_eq!(placed[..cores.len()], cores);
        placed.sort_unstable();
        assert_eq!(placed, allowed);
    }
}
