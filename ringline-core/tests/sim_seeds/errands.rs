//! Messages and jobs of the run: every message once and in order, every job answered once.

use crate::chaos::Chaos;
use ringline_core::{ConnId, Ctx, JobError, JobFailed, JobId, JobKey, PostError, ResolveError};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::panic::resume_unwind;
use std::sync::Arc;

/// A name that the run knows, and one that it does not.
pub(crate) const NAME: &str = "host.example";
const NO_NAME: &str = "nobody.example";

/// The addresses of [`NAME`].
pub(crate) fn ips() -> Vec<IpAddr> {
    vec![IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2])]
}

#[derive(Debug)]
struct Given {
    id: JobId,
    conn: Option<ConnId>,
    panics: bool,
    is_cancelled: bool,
}

/// What is under way.
#[derive(Debug, Default)]
pub(crate) struct Errands {
    /// The number of the next message that is posted and of the next that comes.
    next_post: u64,
    next_message: u64,
    next_key: u64,
    jobs: BTreeMap<u64, Given>,
    names: BTreeMap<u64, (JobId, &'static str, bool)>,
    /// Held by every job that has been neither run nor dropped.
    held: Arc<()>,
}

impl Errands {
    /// The number to post from outside.
    pub(crate) fn number(&self) -> u64 {
        self.next_post
    }

    /// What became of that.
    pub(crate) fn posted(&mut self, answer: Result<(), PostError<u64>>) {
        match answer {
            Ok(()) => self.next_post += 1,
            Err(PostError::Full { message, .. }) => assert_eq!(message, self.next_post, "it comes back"),
            Err(error) => panic!("{error}"),
        }
    }

    /// A connection is over.
    pub(crate) fn forget(&mut self, id: ConnId) {
        self.jobs.retain(|_, given| given.conn != Some(id));
    }

    pub(crate) fn check_finished(&self) {
        assert!(self.jobs.is_empty(), "every job was answered: {:?}", self.jobs);
        assert!(self.names.is_empty(), "every name was answered: {:?}", self.names);
        assert_eq!(Arc::strong_count(&self.held), 1, "no job is left anywhere");
    }
}

impl Chaos {
    /// Posts, gives a job away, cancels one.
    pub(crate) fn run_errand(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId) {
        match self.dice.below(10) {
            0..4 => {
                let answer = cx.post(0, self.errands.number());
                self.errands.posted(answer);
            }
            4..6 => self.give(cx, None),
            6..8 => self.give(cx, Some(id)),
            8 => self.resolve(cx),
            _ => self.cancel_job(cx),
        }
    }

    fn give(&mut self, cx: &mut Ctx<'_, Self>, conn: Option<ConnId>) {
        let key = self.errands.next_key;
        self.errands.next_key += 1;
        let panics = self.dice.chance(100);
        let held = Arc::clone(&self.errands.held);
        let job = move || {
            drop(held);
            if panics { resume_unwind(Box::new("a job")) } else { key }
        };
        let given = match conn {
            None => cx.run_blocking(JobKey(key), job),
            Some(conn) => cx.run_blocking_for(conn, JobKey(key), job),
        };
        match given {
            Ok(id) => {
                assert!(!self.is_ending && conn.is_none_or(|conn| cx.is_open(conn)));
                self.errands.jobs.insert(key, Given { id, conn, panics, is_cancelled: false });
            }
            Err(rejected) => match rejected.error {
                JobError::NotOpen => assert!(conn.is_some_and(|conn| !cx.is_open(conn))),
                JobError::ShuttingDown | JobError::QueueFull { .. } => {}
                error => panic!("{error}"),
            },
        }
    }

    fn resolve(&mut self, cx: &mut Ctx<'_, Self>) {
        let key = self.errands.next_key;
        self.errands.next_key += 1;
        let host = [NAME, NO_NAME, "192.0.2.1"][self.dice.below(3)];
        match cx.resolve(host, 80, JobKey(key)) {
            Ok(id) => assert!(self.errands.names.insert(key, (id, host, false)).is_none()),
            Err(error) => {
                assert!(matches!(error, ResolveError::QueueFull { .. } | ResolveError::ShuttingDown));
            }
        }
    }

    fn cancel_job(&mut self, cx: &mut Ctx<'_, Self>) {
        let jobs = &mut self.errands.jobs;
        let at = self.dice.below(jobs.len() + 1);
        if let Some((_, given)) = jobs.iter_mut().nth(at) {
            let cancelled = cx.cancel_job(given.id);
            // The answer for a connection that is closing may have been dropped already.
            assert!(cancelled || given.is_cancelled || given.conn.is_some() || self.is_ending);
            assert!(!cancelled || !given.is_cancelled, "a job is cancelled once");
            given.is_cancelled |= cancelled;
        } else if let Some((_, (id, _, is_cancelled))) = self.errands.names.iter_mut().next() {
            // A worker that ends has cancelled what has not begun.
            let cancelled = cx.cancel_job(*id);
            assert!(cancelled != *is_cancelled || self.is_ending && !cancelled);
            *is_cancelled |= cancelled;
        }
    }

    pub(crate) fn take_message(&mut self, message: u64) {
        assert_eq!(message, self.errands.next_message, "messages come once and in order");
        self.errands.next_message += 1;
    }

    /// An answer; `id` is the connection that it is for.
    pub(crate) fn take_answer(&mut self, id: Option<ConnId>, key: JobKey, result: Result<u64, JobFailed>) {
        let given = self.errands.jobs.remove(&key.0).expect("a job is answered once");
        assert_eq!(given.conn, id);
        match result {
            Ok(value) => assert!(value == key.0 && !given.panics && !given.is_cancelled),
            Err(JobFailed::Panicked { text }) => {
                assert!(text == "a job" && given.panics && !given.is_cancelled);
            }
            Err(JobFailed::Cancelled) => assert!(given.is_cancelled || self.is_ending),
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) fn take_names(&mut self, key: JobKey, result: Result<Vec<SocketAddr>, ResolveError>) {
        let (_, host, is_cancelled) = self.errands.names.remove(&key.0).expect("a name is answered once");
        let expected = |ips: &[IpAddr]| ips.iter().map(|ip| SocketAddr::new(*ip, 80)).collect::<Vec<_>>();
        match result {
            Err(ResolveError::Cancelled) => assert!(is_cancelled || self.is_ending),
            Err(error) => assert_eq!((error, host, is_cancelled), (ResolveError::NotFound, NO_NAME, false)),
            Ok(found) if host == NAME => assert!(found == expected(&ips()) && !is_cancelled),
            Ok(found) => assert!(found == expected(&ips()[..1]) && !is_cancelled),
        }
    }
}
