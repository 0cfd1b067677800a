//! The layer by itself: whatever arrives, in whatever pieces, it panics over nothing, keeps to its bounds,
//! and never takes changed bytes for what was sent.

#[allow(dead_code, reason = "these tests need but some of it")]
#[path = "interop/certificates.rs"]
mod certificates;

use certificates::Folder;
use proptest::prelude::*;
use ringline_core::layer::{CHUNK_BYTES, Layer, LayerError, SEALED_CHUNK_BYTES};
use ringline_tls::{TlsConfig, TlsConnector, TlsFault, TlsVersions};

/// Both sides' configurations.
struct Sides {
    server: TlsConfig,
    client: TlsConnector,
    _folder: Folder,
}

impl Sides {
    fn new(versions: TlsVersions) -> Self {
        let folder = Folder::new();
        let (certificate, key) = folder.issue("server", &["server.test"]);
        let server = TlsConfig::from_pem_files(certificate, key).expect("good files");
        let client = TlsConnector::builder().roots(folder.file("ca.pem")).versions(versions);
        Self { server, client: client.build().expect("good files"), _folder: folder }
    }

    /// Two sides that agree.
    fn ready(&self) -> (Box<dyn Layer>, Box<dyn Layer>) {
        let mut client = self.client.layer("server.test").expect("a name");
        let mut server = self.server.layer().expect("a server");
        let (mut there, mut back, mut plain) = (Vec::new(), Vec::new(), Vec::new());
        client.begin(&mut there).expect("a hello");
        for _ in 0..4 {
            read(&mut *server, &there, &[usize::MAX], &mut plain, &mut back).expect("a handshake");
            there.clear();
            read(&mut *client, &back, &[usize::MAX], &mut plain, &mut there).expect("a handshake");
            back.clear();
        }
        assert!(!client.is_handshaking() && !server.is_handshaking() && plain.is_empty());
        (client, server)
    }
}

/// Feeds a layer in pieces of these lengths.
fn read(
    layer: &mut dyn Layer,
    wire: &[u8],
    lens: &[usize],
    plain: &mut Vec<u8>,
    answers: &mut Vec<u8>,
) -> Result<(), LayerError> {
    let (mut tail, mut rest, mut lens) = (Vec::new(), wire, lens.iter().cycle());
    while !rest.is_empty() {
        let len = lens.next().map_or(1, |len| (*len).clamp(1, rest.len()));
        tail.extend_from_slice(&rest[..len]);
        rest = &rest[len..];
        let through = layer.read(&mut tail, plain, answers)?;
        tail.drain(..through);
    }
    Ok(())
}

fn write(layer: &mut dyn Layer, plain: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    for chunk in plain.chunks(CHUNK_BYTES) {
        let room = layer.wire_len(chunk.len());
        assert!(room <= SEALED_CHUNK_BYTES);
        let at = wire.len();
        wire.resize(at + room, 0);
        let written = layer.write(chunk, &mut wire[at..]).expect("both sides agree");
        wire.truncate(at + written);
    }
    wire
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn arbitrary_bytes_are_refused_or_waited_for(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        looks_right in any::<bool>(),
        lens in proptest::collection::vec(1usize..50, 1..4),
    ) {
        let sides = Sides::new(TlsVersions::All);
        let mut wire = bytes;
        if looks_right {
            // The head of a record, so that more than its first bytes is looked at.
            let head = [0x16, 3, 1, (wire.len() >> 8) as u8, wire.len() as u8];
            wire.splice(0..0, head);
        }
        for mut layer in [sides.server.layer().unwrap(), sides.client.layer("server.test").unwrap()] {
            let (mut plain, mut answers) = (Vec::new(), Vec::new());
            layer.begin(&mut answers).unwrap();
            let result = read(&mut *layer, &wire, &lens, &mut plain, &mut answers);
            prop_assert!(plain.is_empty() && layer.is_handshaking());
            if result.is_err() {
                let again = layer.read(&mut [0x16], &mut plain, &mut answers);
                prop_assert!(again.is_err(), "what has failed stays so");
            }
            layer.close(&mut answers);
        }
    }

    #[test]
    fn what_one_side_writes_the_other_reads_whatever_the_pieces(
        plain in proptest::collection::vec(any::<u8>(), 1..60_000),
        lens in proptest::collection::vec(1usize..20_000, 1..6),
        is_new in any::<bool>(),
        is_client in any::<bool>(),
    ) {
        let sides = Sides::new(if is_new { TlsVersions::Tls13 } else { TlsVersions::Tls12 });
        let (client, server) = sides.ready();
        let (mut from, mut to) = if is_client { (client, server) } else { (server, client) };
        let mut wire = write(&mut *from, &plain);
        from.close(&mut wire);
        let len = wire.len();
        from.close(&mut wire);
        prop_assert_eq!(wire.len(), len, "the end is marked once");
        let (mut got, mut answers) = (Vec::new(), Vec::new());
        read(&mut *to, &wire, &lens, &mut got, &mut answers).unwrap();
        prop_assert!(got == plain && to.is_read_closed());
        // The other direction goes on.
        let (mut back, reply) = (Vec::new(), write(&mut *to, b"still here"));
        let mut none = Vec::new();
        read(&mut *from, &reply, &[7], &mut back, &mut none).unwrap();
        prop_assert_eq!(back, b"still here");
    }

    #[test]
    fn a_changed_bit_is_never_taken_for_what_was_sent(at in 0usize..2000, bit in 0u8..8, is_new in any::<bool>()) {
        let sides = Sides::new(if is_new { TlsVersions::Tls13 } else { TlsVersions::Tls12 });
        let (mut client, mut server) = sides.ready();
        let plain = [b'x'; 1000];
        let mut wire = [write(&mut *client, &plain), write(&mut *client, &plain)].concat();
        let at = at % wire.len();
        // TLS 1.3 has no use for the version in the head of a record, and leaves it unprotected.
        let is_vain = is_new && matches!(at % (wire.len() / 2), 1 | 2);
        wire[at] ^= 1 << bit;
        let (mut got, mut answers) = (Vec::new(), Vec::new());
        let result = read(&mut *server, &wire, &[100], &mut got, &mut answers);
        prop_assert!(got.iter().all(|byte| *byte == b'x') && got.len() % 1000 == 0);
        prop_assert!(is_vain || result.is_err() || got.len() < 2000, "a change is noticed, or the rest is waited for");
        if let Err(error) = result {
            prop_assert!(TlsFault::from_layer(error).is_some());
            prop_assert!(!answers.is_empty(), "an alert says so");
        }
    }
}
