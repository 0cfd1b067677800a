//! The examples that are programs of their own, run as a user runs them.

mod loadgen;
mod process;
