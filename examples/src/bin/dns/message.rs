//! What a forwarder has to know of a message: its id, its question, and whether it is a question at all.
//!
//! Everything else passes through as it is, so that records nobody has heard of yet are forwarded, too.

use domain::base::iana::{Opcode, Rcode};
use domain::base::{Message, MessageBuilder};

/// What to do with what a client has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Forward,
    Refuse(Rcode),
    /// It is no query. Whoever answered it might start a conversation of two servers.
    Ignore,
}

/// Judges a message of a client.
pub(crate) fn judge(message: &[u8]) -> Verdict {
    let Ok(message) = Message::from_slice(message) else { return Verdict::Ignore };
    if message.header().qr() {
        return Verdict::Ignore;
    }
    if message.header().opcode() != Opcode::QUERY {
        return Verdict::Refuse(Rcode::NOTIMP);
    }
    match message.sole_question() {
        Ok(_) if message.is_xfr() => Verdict::Refuse(Rcode::REFUSED),
        Ok(_) => Verdict::Forward,
        Err(_) => Verdict::Refuse(Rcode::FORMERR),
    }
}

/// The answer that says no. `query` has a header at least.
pub(crate) fn refusal(query: &[u8], rcode: Rcode) -> Option<Vec<u8>> {
    let query = Message::from_slice(query).ok()?;
    let mut answer = MessageBuilder::new_vec().start_answer(query, rcode).ok()?;
    answer.header_mut().set_ra(true);
    Some(answer.finish())
}

/// Whether `answer` has the id and the question of `query`.
pub(crate) fn is_answer(answer: &[u8], query: &[u8]) -> bool {
    match (Message::from_slice(answer), Message::from_slice(query)) {
        (Ok(answer), Ok(query)) => answer.is_answer(query),
        _ => false,
    }
}

/// Whether the server that answers so could not help, and another one may.
pub(crate) fn is_no_help(answer: &[u8]) -> bool {
    Message::from_slice(answer)
        .is_ok_and(|answer| matches!(answer.header().rcode(), Rcode::SERVFAIL | Rcode::REFUSED))
}

/// The id of a message, if it is long enough to have one.
pub(crate) fn id(message: &[u8]) -> Option<u16> {
    Message::from_slice(message).ok().map(|message| message.header().id())
}

/// Gives a message another id. It has a header.
pub(crate) fn set_id(message: &mut [u8], id: u16) {
    message[..2].copy_from_slice(&id.to_be_bytes());
}

/// A query for a name of letters and dots, for tests.
#[cfg(test)]
pub(crate) fn query(id: u16, name: &str) -> Vec<u8> {
    let mut bytes = [&id.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an honest server would say.
    fn answer(query: &[u8]) -> Vec<u8> {
        let mut answer = query.to_vec();
        answer[2] |= 0x80;
        answer
    }

    #[test]
    fn only_queries_are_forwarded() {
        let good = query(7, "example.com");
        assert_eq!(judge(&good), Verdict::Forward);
        let with = |at: usize, byte: u8| {
            let mut query = good.clone();
            query[at] = byte;
            query
        };
        assert_eq!(judge(&with(2, 0x81)), Verdict::Ignore, "an answer");
        assert_eq!(judge(&good[..11]), Verdict::Ignore, "no header");
        assert_eq!(judge(&with(2, 0x29)), Verdict::Refuse(Rcode::NOTIMP), "an update");
        assert_eq!(judge(&with(5, 0)), Verdict::Refuse(Rcode::FORMERR), "no question");
        assert_eq!(judge(&with(5, 2)), Verdict::Refuse(Rcode::FORMERR), "two questions");
        assert_eq!(judge(&good[..20]), Verdict::Refuse(Rcode::FORMERR), "half a question");
        assert_eq!(judge(&with(26, 252)), Verdict::Refuse(Rcode::REFUSED), "a whole zone");
        assert_eq!(judge(&with(25, 255)), Verdict::Forward, "a type that nobody has heard of");
        let mut looping = good.clone();
        looping.splice(12.., [0xc0, 12, 0, 1, 0, 1]);
        assert_eq!(judge(&looping), Verdict::Refuse(Rcode::FORMERR), "a name that contains itself");
    }

    #[test]
    fn an_answer_has_the_id_and_the_question() {
        let query_bytes = query(7, "example.com");
        assert!(is_answer(&answer(&query_bytes), &query_bytes));
        assert!(is_answer(&answer(&query(7, "eXample.COM")), &query_bytes), "case makes no difference");
        assert!(!is_answer(&query_bytes, &query_bytes), "it is the query");
        assert!(!is_answer(&answer(&query(8, "example.com")), &query_bytes), "another id");
        assert!(!is_answer(&answer(&query(7, "example.org")), &query_bytes), "another name");
        let mut other_type = answer(&query_bytes);
        let end = other_type.len();
        other_type[end - 3] = 28;
        assert!(!is_answer(&other_type, &query_bytes), "another type");
        assert!(!is_answer(&answer(&query_bytes)[..14], &query_bytes), "half of it");
    }

    #[test]
    fn a_refusal_repeats_the_question() {
        let query_bytes = query(7, "example.com");
        let refusal = refusal(&query_bytes, Rcode::SERVFAIL).unwrap();
        assert!(is_answer(&refusal, &query_bytes) && is_no_help(&refusal));
        assert_eq!(refusal[2..4], [0x81, 0x82], "an answer, recursion desired and available, code 2");
        assert!(!is_no_help(&answer(&query_bytes)));
    }

    #[test]
    fn an_id_is_replaced() {
        let mut message = query(7, "a");
        set_id(&mut message, 0xabcd);
        assert_eq!((id(&message), id(&message[..11])), (Some(0xabcd), None));
        assert_eq!(message[2..], query(7, "a")[2..]);
    }
}
