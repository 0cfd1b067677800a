//! The examples that are programs of their own, run as a user runs them.

mod chat;
mod dns;
mod loadgen;
mod process;
