//! Work that blocks, done by threads of its own, and name resolution, which is such work.
//!
//! A worker gives a closure away and gets its result like a message. There are two pools for a server:
//! one for what handlers want done, one for names, so that neither keeps the other waiting. Threads are
//! started when they are needed, so a server that never blocks has none.

mod error;
mod jobs;
mod names;
mod pool;
mod pools;

pub use error::{JobError, JobFailed, JobId, JobKey, JobRejected};
pub use names::ResolveError;

pub(crate) use jobs::{Answer, Jobs, Owner, discard};
pub(crate) use pools::Pools;
