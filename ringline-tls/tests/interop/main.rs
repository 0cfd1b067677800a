//! Real servers and clients of other makes: OpenSSL, curl and Python.
//!
//! A tool that is missing fails the tests that need it, and is named.

mod certificates;
mod dialing;
mod echo;
mod ends;
mod identity;
mod reload;
mod serving;
mod starttls;
mod tools;
mod trust;
