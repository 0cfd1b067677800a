//! An echo of a few thousand bytes.

use super::certificates::Folder;
use ringline_core::layer::{CHUNK_BYTES, Layer};
use ringline_core::testing::{Fault, Faults, PeerId, World};
use ringline_core::{
    Admit, CloseReason, Config, ConnId, Consumed, Ctx, Deadlines, EventHandler, Parts, Peer, SendError, Sent,
};
use ringline_tls::{TlsConfig, TlsConnector, TlsVersions};
use std::sync::Arc;
use std::time::Duration;

/// Echoes, and counts what is told of its sends.
#[derive(Default)]
struct Echo {
    opened: usize,
    through: u64,
    closed: Vec<CloseReason>,
}

impl EventHandler for Echo {
    /// The last send that was accepted.
    type Conn = u64;
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<u64> {
        Admit::Accept(0)
    }

    fn on_open(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &mut u64) {
        self.opened += 1;
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, last: &mut u64, data: &[u8]) -> Consumed {
        let mut parts = Parts::new();
        let half = data.len() / 2;
        parts.copy(&data[..half]).expect("two parts");
        if half < data.len() {
            parts.guard(data[half..].to_vec()).expect("two parts");
        }
        match cx.send_parts(id, parts).map_err(|rejected| rejected.error) {
            Ok(accepted) => {
                assert_eq!(accepted.sequence, *last + 1);
                *last = accepted.sequence;
                Consumed::all(data)
            }
            Err(SendError::Full { .. }) => Consumed::none(),
            Err(error) => panic!("{error}"),
        }
    }

    fn on_send_complete(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, last: &mut u64, sent: Sent) {
        assert!(sent.through <= *last && sent.result.is_ok());
        self.through = sent.through;
    }

    fn on_close(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, last: u64, reason: CloseReason) {
        assert_eq!(self.through, last, "every send is covered");
        self.closed.push(reason);
    }
}

/// Writes and reads once, and lets a little time pass.
fn step(
    world: &mut World<Echo>,
    peer: PeerId,
    client: &mut dyn Layer,
    (out, tail, plain): (&mut Vec<u8>, &mut Vec<u8>, &mut Vec<u8>),
) {
    let written = world.write(peer, out);
    out.drain(..written);
    tail.extend(world.read(peer, usize::MAX));
    let through = client.read(tail, plain, out).expect("the server keeps to the protocol");
    tail.drain(..through);
    world.sleep(Duration::from_millis(1));
}

#[test]
fn every_byte_comes_back_whatever_the_kernel_does() {
    let folder = Folder::new();
    let (certificate, key) = folder.issue("server", &["server.test"]);
    let tls = TlsConfig::from_pem_files(certificate, key).expect("good files");
    let config =
        Config::builder().deadlines(Deadlines::none()).linger(Duration::from_millis(40)).build().unwrap();
    for seed in 0..24 {
        let versions = if seed % 2 == 0 { TlsVersions::Tls13 } else { TlsVersions::Tls12 };
        let connector = TlsConnector::builder().roots(folder.file("ca.pem")).versions(versions);
        let connector = connector.build().expect("good files");
        let mut faults = Faults::random(seed).with(Fault::NoAddress, 0);
        for fault in Fault::ALL.iter().copied().filter(|fault| fault.breaks_connections()) {
            faults = faults.with(fault, 0);
        }
        faults.descriptors = faults.descriptors.max(1 << 10);
        let mut world = World::layered(&config, seed, faults, Arc::new(tls.clone()), Echo::default());
        let mut client = connector.layer("server.test").expect("a name");
        let (mut out, mut tail, mut plain) = (Vec::new(), Vec::new(), Vec::new());
        client.begin(&mut out).expect("a hello");
        let peer = world.connect();
        let whole: Vec<u8> = (0..40_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut is_sent = false;
        let mut steps = 0;
        while plain.len() < whole.len() {
            step(&mut world, peer, &mut *client, (&mut out, &mut tail, &mut plain));
            if !client.is_handshaking() && !std::mem::replace(&mut is_sent, true) {
                for chunk in whole.chunks(CHUNK_BYTES) {
                    let mut wire = vec![0; client.wire_len(chunk.len())];
                    let len = client.write(chunk, &mut wire).expect("both sides agree");
                    out.extend_from_slice(&wire[..len]);
                }
            }
            steps += 1;
            assert!(steps < 100_000, "seed {seed}: {} bytes came back", plain.len());
        }
        assert!(plain == whole, "seed {seed}");
        client.close(&mut out);
        while !out.is_empty() {
            step(&mut world, peer, &mut *client, (&mut out, &mut tail, &mut plain));
        }
        world.end(peer);
        while !(world.saw_eof(peer) && client.is_read_closed()) {
            step(&mut world, peer, &mut *client, (&mut out, &mut tail, &mut plain));
        }
        let handler = world.finish();
        assert_eq!((handler.opened, handler.closed), (1, vec![CloseReason::PeerClosed { unread: 0 }]));
    }
}
