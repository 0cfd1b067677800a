//! Peers that reset their connections.

use super::probe::{Hooks, Probe, Take};
use super::{
    Kernel, base, connect, exchange, leave, ms, on_every_kernel, on_every_kernel_with, pattern, wait_closed,
};
use ringline_core::CloseReason;

#[test]
fn a_reset_ends_the_connection_and_no_other() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            let (other, other_id) = connect(world);
            let (peer, id) = connect(world);
            assert_eq!(exchange(world, peer, b"hello", 5), b"hello");
            world.reset(peer);
            let reason = wait_closed(world, id);
            // A Unix socket that is closed with nothing unread has just ended.
            if world.handler().kernel != Kernel::Unix {
                assert!(matches!(reason, CloseReason::PeerReset | CloseReason::Failed { .. }), "{reason:?}");
                assert!(!reason.is_clean());
            }
            assert_eq!(exchange(world, other, b"still", 5), b"still");
            leave(world, other, other_id);
        },
    );
}

/// The kernel has both before the worker looks.
#[test]
fn a_reset_right_behind_bytes_is_noticed() {
    on_every_kernel(
        || Probe::new(Hooks::SINK),
        |world| {
            for round in 0..20 {
                let (peer, id) = connect(world);
                world.sleep(ms(2));
                world.write_all(peer, &pattern(round, 100));
                world.reset(peer);
                let reason = wait_closed(world, id);
                // As above.
                let has_ended = world.handler().kernel == Kernel::Unix;
                assert!(reason == CloseReason::PeerReset || has_ended, "round {round}: {reason:?}");
            }
        },
    );
}

#[test]
fn a_reset_with_much_still_queued_fails_the_sends() {
    const LARGE: Hooks = Hooks {
        on_data: |probe, cx, id, data| {
            let size = probe.kernel.size(200 << 10, 16 << 20);
            probe.send(cx, id, &pattern(2, size));
            Take::all(data)
        },
        ..Hooks::SINK
    };
    let config = base().outbox_bytes(32 << 20);
    on_every_kernel_with(
        config,
        || Probe::new(LARGE),
        |world| {
            let (peer, id) = connect(world);
            world.write_all(peer, b"!");
            world.read_exactly(peer, 1000);
            world.reset(peer);
            let reason = wait_closed(world, id);
            assert!(matches!(reason, CloseReason::PeerReset | CloseReason::Failed { .. }), "{reason:?}");
            assert!(world.handler().audit.has_failed(id), "the send is reported as failed");
        },
    );
}
