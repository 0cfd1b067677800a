//! NVMe passthrough for ringline.
//!
//! This crate is where typed commands for NVMe character devices go. It holds no code yet.
#![forbid(unsafe_code)]
