//! Real servers and clients of other makes: OpenSSL, curl and Python, if they are installed.
//!
//! A tool that is missing is named, and its tests have nothing to say then.

mod certificates;
mod dialing;
mod echo;
mod ends;
mod identity;
mod serving;
mod tools;
