//! Breakages of TLS itself.

use super::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "tls-mark-unseen",
        breaks: "The peer's close_notify is not taken for the end of its direction.",
        rules: "P113",
        file: "ringline-tls/src/machine.rs",
        from: "                Ok(ConnectionState::PeerClosed) => {\n                    self.is_read_closed = true;",
        to: "                Ok(ConnectionState::PeerClosed) => {",
    },
    Mutant {
        name: "tls-mark-unsaid",
        breaks: "Our direction ends without close_notify.",
        rules: "P113",
        file: "ringline-tls/src/machine.rs",
        from: "            wire.extend_from_slice(&room[..bytes]);",
        to: "            let _ = (wire, bytes);",
    },
    Mutant {
        name: "tls-alert-lost",
        breaks: "A failure is not told to the peer.",
        rules: "P114",
        file: "ringline-tls/src/machine.rs",
        from: "        while self.side.wants_write() {",
        to: "        while self.side.wants_write() && false {",
    },
    Mutant {
        name: "tls-bound-too-short",
        breaks: "The length that bytes have on the wire is announced as too short.",
        rules: "P112",
        file: "ringline-tls/src/machine.rs",
        from: "const RECORD_OVERHEAD: usize = HEADER_BYTES + 8 + 1 + 16;\n",
        to: "const RECORD_OVERHEAD: usize = HEADER_BYTES + 8 + 1;\n",
    },
    Mutant {
        name: "tls-rest-dropped",
        breaks: "The beginning of a record is forgotten before its end arrives.",
        rules: "P112",
        file: "ringline-tls/src/machine.rs",
        from: "            self.tail.extend_from_slice(&rest[through..]);",
        to: "            let _ = through;",
    },
    Mutant {
        name: "tls-goes-on-after-failure",
        breaks: "A machine that has failed takes more of what arrives.",
        rules: "P114",
        file: "ringline-tls/src/machine.rs",
        from: "        self.has_failed = true;\n",
        to: "",
    },
    Mutant {
        name: "tls-record-without-deadline",
        breaks: "A record may arrive byte by byte for ever.",
        rules: "P115",
        file: "ringline-tls/src/machine.rs",
        from: "        !self.tail.is_empty()\n",
        to: "        false\n",
    },
];
