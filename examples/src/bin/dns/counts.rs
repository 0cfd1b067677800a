//! What the workers have counted, together.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Something that is counted.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

macro_rules! counts {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counts {
            $($(#[doc = $doc])+ pub(crate) $name: Count,)+
        }

        /// A line for each.
        impl fmt::Display for Counts {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(writeln!(f, concat!("dns/", stringify!($name), " {}"), self.$name.0.load(Ordering::Relaxed))?;)+
                Ok(())
            }
        }
    };
}

counts! {
    /// Messages from clients that ask to be forwarded.
    queries,
    /// Those that an upstream server has answered.
    answered,
    /// Those that were refused because the table was full.
    refused_full,
    /// Those that no upstream server has answered.
    refused_unanswered,
    /// Messages from clients that are no proper queries.
    refused_malformed,
    /// Questions that were asked once more, of the next server.
    retries,
    /// Messages from upstream servers that answer nothing.
    strays,
    /// Answers whose question is not the one that was asked.
    strays_question,
    /// Datagrams that found no room to be sent.
    unsent,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_has_a_line() {
        let counts = Counts::default();
        counts.queries.add_one();
        counts.queries.add_one();
        counts.unsent.add_one();
        let text = counts.to_string();
        assert_eq!(text.lines().next(), Some("dns/queries 2"));
        assert_eq!(text.lines().last(), Some("dns/unsent 1"));
        assert!(text.contains("dns/refused_full 0\n"), "{text}");
    }
}
