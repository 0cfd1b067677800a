//! Connections that tell when their bytes were received are like any other.

use super::probe::{Hooks, Probe, Take};
use super::{assert_same, connect, exchange, leave, ms, on_every_kernel, pattern, wait, wait_closed};
use ringline_core::CloseReason;

/// Sends back what it reads, and counts what has no time or one before the last.
const STAMPED: Hooks = Hooks {
    on_data: |probe, cx, id, data| {
        match cx.received_at(id) {
            Some(at) => {
                let since = at.duration_since(std::time::UNIX_EPOCH).expect("it is after 1970");
                let micros = since.as_micros() as usize;
                // The times of the connection never go back.
                probe.count += usize::from(micros < probe.size);
                probe.size = micros;
            }
            None => probe.count += 1,
        }
        probe.send(cx, id, data);
        Take::all(data)
    },
    ..Hooks::SINK
};

#[test]
fn every_byte_comes_back_and_has_a_time() {
    on_every_kernel(
        || Probe::new(STAMPED),
        |world| {
            if world.handler().kernel.is_unix() {
                // The kernel notes no times on these.
                return;
            }
            world.stamp_accepted();
            let (peer, id) = connect(world);
            // The kernel begins to note times when it finds the time to.
            wait(world, "a byte with a time", |world| {
                exchange(world, peer, b"?", 1);
                world.act(|probe, _| std::mem::take(&mut probe.count)) == 0
            });
            let large = world.handler().kernel.size(5_000, 1 << 20);
            for (salt, len) in [1, 100, 4096, large].into_iter().enumerate() {
                let bytes = pattern(salt as u64, len.min(large));
                let echoed = exchange(world, peer, &bytes, bytes.len());
                assert_same(&echoed, &bytes);
            }
            assert_eq!(world.handler().count, 0, "a time is missing, or goes back");
            leave(world, peer, id);
        },
    );
}

#[test]
fn pausing_and_ending_work_as_ever() {
    on_every_kernel(
        || Probe::new(Hooks::SINK),
        |world| {
            world.stamp_accepted();
            let (peer, id) = connect(world);
            let bytes = pattern(1, 100);
            world.act(|probe, cx| probe.pause(cx, id));
            world.write_all(peer, &bytes);
            world.sleep(ms(10));
            assert!(world.handler().input.is_empty(), "nothing is shown during a pause");
            world.act(|probe, cx| probe.resume(cx, id));
            wait(world, "everything is shown", |world| world.handler().input.len() == bytes.len());
            assert_same(&world.handler().input, &bytes);
            world.act(|probe, cx| probe.abort(cx, id));
            assert_eq!(wait_closed(world, id), CloseReason::Aborted);
            assert!(!world.act(|_, cx| cx.is_open(id)));
        },
    );
}
