//! The name that a client asks for, and whether there is a certificate for it.
//!
//! The machine that a server's connection is does not say it, but asks for a certificate for it. That
//! question is asked on the thread that feeds the machine, while it does, so what was asked last on this
//! thread is about the connection that is being fed.

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::cell::Cell;
use std::sync::Arc;

thread_local! {
    static ASKED: Cell<Option<Box<str>>> = const { Cell::new(None) };
    static WAS_IN_VAIN: Cell<bool> = const { Cell::new(false) };
}

/// Notes the name and passes the question on.
#[derive(Debug)]
pub(crate) struct Noting(pub(crate) Arc<dyn ResolvesServerCert>);

impl ResolvesServerCert for Noting {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        ASKED.set(hello.server_name().map(Box::from));
        let found = self.0.resolve(hello);
        WAS_IN_VAIN.set(found.is_none());
        found
    }

    fn only_raw_public_keys(&self) -> bool {
        self.0.only_raw_public_keys()
    }
}

/// Whether there was no certificate for what was asked for on this thread since the last call.
pub(crate) fn was_in_vain() -> bool {
    WAS_IN_VAIN.take()
}

/// The name that was asked for on this thread since the last call.
pub(crate) fn take() -> Option<Box<str>> {
    ASKED.take()
}
