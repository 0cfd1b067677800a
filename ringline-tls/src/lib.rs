//! TLS for ringline servers.
//!
//! This crate is where TLS by configuration goes: the same handler, encrypted, with nothing else to
//! write. It holds no code yet.
#![forbid(unsafe_code)]
