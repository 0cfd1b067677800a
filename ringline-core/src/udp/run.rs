//! Runs of datagrams that the kernel cannot cut apart: they are sent one by one.
//!
//! Before Linux 6.11 a run needs a device that computes checksums, and on none does it go through `IPsec`;
//! otherwise it fails with `EIO`, as a whole, and nothing of it has left. A socket for which that has
//! happened gives the kernel no more runs. Its handler does not notice.

use super::{Sockets, UdpId};
use crate::buf::{Outgoing, Pool};

impl Sockets {
    /// Puts the datagrams of a run in its place, at the head of the queue. They count as accepted
    /// already. Says how often the allocator had to be asked.
    #[cold]
    pub(crate) fn cut_run(&mut self, id: UdpId, run: Box<Outgoing>, pool: &mut Pool) -> u32 {
        let mut fresh = 0;
        for bytes in run.bytes().chunks(run.segment_bytes.into()).rev() {
            let mut single = self.take_spare();
            single.to = run.to;
            single.source = run.source;
            fresh += u32::from(single.fill(bytes, pool));
            if let Some(row) = self.get_mut(id) {
                row.cuts_runs = true;
                row.queue.push_front(single);
            }
        }
        self.put(run, pool);
        fresh
    }
}
