//! What went wrong with a TLS connection, as a number that fits into a close reason and back.

use ringline_core::CloseReason;
use ringline_core::layer::LayerError;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};
use std::fmt;

/// Codes from here on are the peer's alerts.
const ALERTS: u16 = 0x100;

macro_rules! faults {
    ($($(#[$meaning:meta])+ $name:ident = $code:literal, $who:ident, $text:literal;)+) => {
        /// Why a TLS connection failed: what is behind a
        /// [`LayerFailed`](ringline_core::CloseReason::LayerFailed).
        ///
        /// # Examples
        ///
        /// ```
        /// use ringline_core::CloseReason;
        /// use ringline_tls::TlsFault;
        ///
        /// fn is_worth_a_look(reason: CloseReason) -> bool {
        ///     // Scanners and plain HTTP are the noise of every public port.
        ///     !matches!(TlsFault::of(reason), Some(TlsFault::NotTls | TlsFault::Ended))
        /// }
        /// assert!(is_worth_a_look(CloseReason::PeerReset));
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum TlsFault {
            $($(#[$meaning])+ $name,)+
            /// The peer has sent this alert, by its number: it refuses what it was offered.
            Alert(u8),
        }

        impl TlsFault {
            /// The fault behind a layer's error, if it comes from this crate.
            pub fn from_layer(error: LayerError) -> Option<Self> {
                match error.code() {
                    $($code => Some(Self::$name),)+
                    code if code >> 8 == ALERTS >> 8 => Some(Self::Alert(code as u8)),
                    _ => None,
                }
            }

            pub(crate) const fn layer_error(self) -> LayerError {
                match self {
                    $(Self::$name => LayerError::$who($code, $text),)+
                    Self::Alert(number) => LayerError::by_peer(ALERTS | number as u16, alert_text(number)),
                }
            }
        }

        impl fmt::Display for TlsFault {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.layer_error().text())
            }
        }

        #[cfg(test)]
        const ALL: &[TlsFault] = &[$(TlsFault::$name),+];
    };
}

faults! {
    /// What the peer says is not TLS: plain HTTP, for example.
    NotTls = 1, by_peer,
        "the peer does not speak TLS; check that both sides mean the same port, and that it is one for \
         TLS";
    /// What the peer says is TLS, but malformed.
    Malformed = 2, by_peer,
        "the peer sent a malformed TLS message; look for a fault in its software, or for something in \
         between that changes bytes";
    /// A record is longer than TLS allows.
    Oversized = 3, by_peer,
        "the peer sent a record that is longer than TLS allows; look for a fault in its software";
    /// A record could not be decrypted: it was changed on the way, or keys differ.
    Undecipherable = 4, by_peer,
        "a record could not be decrypted; look for something in between that changes bytes";
    /// The peer and this side have no version, cipher suite or other parameter in common.
    Incompatible = 5, by_peer,
        "the peer and this side have no TLS parameters in common; compare the versions, cipher suites \
         and kinds of keys of both";
    /// The peer does what the protocol forbids, or more of it than is tolerated.
    Misbehaved = 6, by_peer, "the peer breaks the rules of TLS; look for a fault in its software";
    /// The peer has to show a certificate and has none.
    NoCertificate = 7, by_peer, "the peer showed no certificate; give it one, or do not require it";
    /// The peer's certificate is no longer valid.
    CertificateExpired = 8, by_peer, "the peer's certificate has expired; have it renewed";
    /// The peer's certificate is not valid yet.
    CertificateNotYetValid = 9, by_peer,
        "the peer's certificate is not valid yet; check the clock of this system, and the dates of the \
         certificate";
    /// Nobody who is trusted vouches for the peer's certificate. A self-signed one is among these unless
    /// it is trusted itself.
    UnknownIssuer = 10, by_peer,
        "nobody trusted has issued the peer's certificate; trust its issuer, have the peer send all \
         certificates in between, or have another one issued";
    /// The peer's certificate is for another name.
    WrongName = 11, by_peer,
        "the peer's certificate is for another name; ask for a name that is in it, or have one issued \
         for this name";
    /// The peer's certificate was revoked.
    CertificateRevoked = 12, by_peer, "the peer's certificate was revoked; have another one issued";
    /// The peer's certificate is not acceptable for another reason.
    BadCertificate = 13, by_peer,
        "the peer's certificate is not acceptable; have one issued that is for this purpose and no \
         authority's own (CA:FALSE)";
    /// The peer speaks none of the application protocols that this side does (ALPN).
    NoApplicationProtocol = 14, by_peer,
        "the peer has no application protocol in common; compare what both sides offer (ALPN)";
    /// More bytes were sent with one set of keys than is safe, and version 1.2 cannot change them.
    Exhausted = 15, by_us,
        "the keys of the connection are used up; connect again, or use version 1.3, which changes them";
    /// Something on this side: a configuration that rustls has no use for, no random numbers.
    Internal = 16, by_us, "TLS failed on this side; the log says why";
    /// A signature does not fit: the peer has not the key of its certificate, or the certificate comes
    /// from another issuer with the name of the trusted one, or was changed.
    BadSignature = 17, by_peer,
        "a signature of the peer does not fit; have it use the key of its certificate, and a certificate \
         from the issuer that is trusted now";
    /// The client asks for a name that this side has no certificate for.
    UnknownName = 18, by_peer,
        "the peer asks for a name that there is no certificate for; add one for this name, or one for \
         all others";
    /// The peer ended the connection during the handshake, as one that does not trust this side's
    /// certificate may.
    Ended = 0xFFFF, by_peer, "the peer ended the connection during the handshake";
    /// The peer sent more than fits into one message.
    Backlog = 0xFFFE, by_peer, "the peer sent a unit that is too long";
    /// The peer makes this side answer and does not read the answers.
    Flood = 0xFFFD, by_peer, "the peer asks for answers and does not read them";
}

impl TlsFault {
    /// The fault behind the end of a connection, if it is one of TLS.
    pub fn of(reason: CloseReason) -> Option<Self> {
        match reason {
            CloseReason::LayerFailed(error) => Self::from_layer(error),
            _ => None,
        }
    }

    pub(crate) fn from_rustls(error: &Error) -> Self {
        match error {
            Error::InvalidMessage(
                InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
            ) => Self::NotTls,
            Error::InvalidMessage(
                InvalidMessage::MessageTooLarge | InvalidMessage::HandshakePayloadTooLarge,
            )
            | Error::PeerSentOversizedRecord => Self::Oversized,
            Error::InvalidMessage(_) => Self::Malformed,
            Error::DecryptError => Self::Undecipherable,
            Error::PeerIncompatible(_) => Self::Incompatible,
            Error::PeerMisbehaved(_)
            | Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. } => Self::Misbehaved,
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::InvalidCertificate(error) => Self::from_certificate(error),
            Error::NoApplicationProtocol => Self::NoApplicationProtocol,
            Error::AlertReceived(alert) => Self::Alert((*alert).into()),
            _ => Self::Internal,
        }
    }

    fn from_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::CertificateExpired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::CertificateNotYetValid
            }
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::WrongName
            }
            CertificateError::BadSignature => Self::BadSignature,
            CertificateError::Revoked => Self::CertificateRevoked,
            _ => Self::BadCertificate,
        }
    }
}

const fn alert_text(number: u8) -> &'static str {
    match number {
        10 => "the peer found a message out of place (alert unexpected_message)",
        20 => {
            "the peer found a record changed (alert bad_record_mac); look for something in between that \
             changes bytes"
        }
        22 => "the peer found a record too long (alert record_overflow)",
        40 => {
            "the peer found no parameters in common, or misses a certificate (alert handshake_failure); \
             its log may say more"
        }
        42 => "the peer found the certificate corrupt (alert bad_certificate); have it issued again",
        43 => {
            "the peer cannot use this kind of certificate (alert unsupported_certificate); have one of \
             another kind issued"
        }
        44 => "the peer found the certificate revoked (alert certificate_revoked); have another one issued",
        45 => "the peer found the certificate expired (alert certificate_expired); renew it",
        46 => "the peer did not accept the certificate (alert certificate_unknown); its log may say more",
        47 => "the peer found a parameter out of range (alert illegal_parameter)",
        48 => {
            "the peer does not know who issued the certificate (alert unknown_ca); show all \
             certificates in between, or have the peer trust the issuer"
        }
        49 => "the peer denied access (alert access_denied)",
        50 => "the peer could not decode a message (alert decode_error)",
        51 => {
            "the peer could not verify a signature (alert decrypt_error); check that the key belongs to \
             the certificate"
        }
        70 => "the peer does not speak this version (alert protocol_version); allow others",
        71 => "the peer wants stronger cryptography (alert insufficient_security)",
        80 => "the peer had an internal error (alert internal_error); its log may say more",
        90 => "the peer has cancelled the handshake (alert user_canceled)",
        109 => "the peer misses an extension (alert missing_extension)",
        112 => "the peer does not know the name (alert unrecognized_name); ask for one that it serves",
        116 => "the peer wants a certificate (alert certificate_required); show one",
        120 => {
            "the peer has no application protocol in common (alert no_application_protocol); compare \
             what both sides offer"
        }
        _ => "the peer sent an alert; its number has a name in RFC 8446",
    }
}

/// The alert as rustls names it.
impl From<TlsFault> for Option<AlertDescription> {
    fn from(fault: TlsFault) -> Self {
        match fault {
            TlsFault::Alert(number) => Some(number.into()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_survives_the_way_through_a_close_reason() {
        let alerts = (0..=255).map(TlsFault::Alert);
        for fault in ALL.iter().copied().chain(alerts) {
            let reason = CloseReason::LayerFailed(fault.layer_error());
            assert_eq!(TlsFault::of(reason), Some(fault));
            assert!(!reason.is_clean() && !fault.to_string().is_empty());
        }
        assert_eq!(TlsFault::of(CloseReason::PeerReset), None);
        assert_eq!(TlsFault::from_layer(LayerError::by_us(999, "of another kind")), None);
    }

    #[test]
    fn the_faults_of_all_layers_have_their_names() {
        for (error, fault) in [
            (LayerError::ENDED, TlsFault::Ended),
            (LayerError::BACKLOG, TlsFault::Backlog),
            (LayerError::FLOOD, TlsFault::Flood),
        ] {
            assert_eq!(TlsFault::from_layer(error), Some(fault));
        }
    }
}
