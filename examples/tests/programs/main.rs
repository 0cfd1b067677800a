//! The examples that are programs of their own, run as a user runs them.

#[allow(dead_code, reason = "these tests need but some of it")]
#[path = "../../../ringline-tls/tests/interop/certificates.rs"]
mod certificates;
mod chat;
mod dns;
mod fetch;
mod https;
mod loadgen;
mod process;
mod tls;
