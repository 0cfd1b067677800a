//! TLS on the simulated kernel, with all that a kernel may do to it, and on the real one.

#[path = "../interop/certificates.rs"]
#[allow(dead_code, reason = "these tests need but some of it")]
mod certificates;
mod echo;
mod floods;
mod peer;
mod streams;
