//! Queries that wait for an answer, in a table of a fixed size.
//!
//! Invariant: what is in the table is under exactly one socket and id, which is where its answer has to
//! come; an answer to a query that was asked elsewhere since then does not count.

use super::message;
use ringline_core::TimerId;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

/// How often an id is drawn again that is taken.
const DRAWS_MAX: usize = 16;

/// Names a query in the table; one that has left it is not taken for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

impl Ticket {
    pub(crate) fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number that makes this ticket again.
    pub(crate) fn number(self) -> u64 {
        self.0
    }

    fn of(row: usize, generation: u32) -> Self {
        Self(u64::from(generation) << 32 | row as u64)
    }

    fn row(self) -> usize {
        self.0 as u32 as usize
    }
}

/// A query and who wants to know.
#[derive(Debug)]
pub(crate) struct Pending<A, S> {
    pub(crate) asker: A,
    /// The id that the asker has given it.
    pub(crate) asker_id: u16,
    /// As it is asked now, with an id of our own.
    pub(crate) query: Vec<u8>,
    /// How often it was asked.
    pub(crate) tries: usize,
    /// Which of the servers is asked.
    pub(crate) upstream: usize,
    /// What ends the wait.
    pub(crate) timer: Option<TimerId>,
    asked_on: Option<S>,
}

#[derive(Debug)]
struct Row<A, S> {
    generation: u32,
    pending: Option<Pending<A, S>>,
}

#[derive(Debug)]
pub(crate) struct Table<A, S> {
    rows: Vec<Row<A, S>>,
    free: Vec<usize>,
    asked: HashMap<(S, u16), usize>,
    limit: usize,
}

/// Why a message is no answer to anything that is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stray {
    /// Nothing is asked there under this id.
    Unknown,
    /// Something is, but it is another question.
    WrongQuestion,
}

impl<A, S: Copy + Eq + Hash> Table<A, S> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { rows: Vec::new(), free: Vec::new(), asked: HashMap::new(), limit }
    }

    /// Takes a query in, which has a header; `None` if the table is full.
    pub(crate) fn insert(&mut self, asker: A, query: &[u8]) -> Option<Ticket> {
        let asker_id = message::id(query)?;
        let row = match self.free.pop() {
            Some(row) => row,
            None if self.rows.len() < self.limit => {
                self.rows.push(Row { generation: 0, pending: None });
                self.rows.len() - 1
            }
            None => return None,
        };
        self.rows[row].pending = Some(Pending {
            asker,
            asker_id,
            query: query.to_vec(),
            tries: 0,
            upstream: 0,
            timer: None,
            asked_on: None,
        });
        Some(Ticket::of(row, self.rows[row].generation))
    }

    /// Puts a query under a socket and an id that `draw` gives; what was asked before is forgotten.
    /// `None` if it has left the table, or if no free id is drawn.
    pub(crate) fn ask(
        &mut self,
        ticket: Ticket,
        on: S,
        upstream: usize,
        mut draw: impl FnMut() -> u16,
    ) -> Option<&mut Pending<A, S>> {
        let row = self.find(ticket)?;
        self.forget(row);
        for _ in 0..DRAWS_MAX {
            let id = draw();
            if let Entry::Vacant(vacant) = self.asked.entry((on, id)) {
                vacant.insert(row);
                let pending = self.rows[row].pending.as_mut()?;
                message::set_id(&mut pending.query, id);
                pending.asked_on = Some(on);
                pending.upstream = upstream;
                pending.tries += 1;
                return Some(pending);
            }
        }
        None
    }

    /// The query that a message on a socket answers.
    pub(crate) fn find_answered(&self, on: S, answer: &[u8]) -> Result<Ticket, Stray> {
        let id = message::id(answer).ok_or(Stray::Unknown)?;
        let row = *self.asked.get(&(on, id)).ok_or(Stray::Unknown)?;
        let Row { generation, pending } = &self.rows[row];
        let pending = pending.as_ref().ok_or(Stray::Unknown)?;
        if message::is_answer(answer, &pending.query) {
            Ok(Ticket::of(row, *generation))
        } else {
            Err(Stray::WrongQuestion)
        }
    }

    /// Takes a query out; `None` if it is not there any more.
    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<Pending<A, S>> {
        let row = self.find(ticket)?;
        self.forget(row);
        self.rows[row].generation = self.rows[row].generation.wrapping_add(1);
        self.free.push(row);
        self.rows[row].pending.take()
    }

    pub(crate) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Pending<A, S>> {
        let row = self.find(ticket)?;
        self.rows[row].pending.as_mut()
    }

    /// What is asked on a socket; everything there is without one.
    pub(crate) fn tickets(&self, on: Option<S>) -> Vec<Ticket> {
        let rows = self.rows.iter().enumerate();
        rows.filter(|(_, row)| {
            row.pending.as_ref().is_some_and(|pending| on.is_none() || pending.asked_on == on)
        })
        .map(|(at, row)| Ticket::of(at, row.generation))
        .collect()
    }

    /// The row of a ticket that is still good.
    fn find(&self, ticket: Ticket) -> Option<usize> {
        let at = ticket.row();
        let row = self.rows.get(at)?;
        (row.pending.is_some() && Ticket::of(at, row.generation) == ticket).then_some(at)
    }

    /// Nothing that comes under the old id counts any more.
    fn forget(&mut self, row: usize) {
        if let Some(pending) = &mut self.rows[row].pending
            && let Some(on) = pending.asked_on.take()
            && let Some(id) = message::id(&pending.query)
        {
            self.asked.remove(&(on, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::query;
    use super::*;

    type Names = Table<&'static str, u8>;

    /// An honest answer to what is asked.
    fn answer(query: &[u8]) -> Vec<u8> {
        let mut answer = query.to_vec();
        answer[2] |= 0x80;
        answer
    }

    #[test]
    fn an_answer_finds_its_query_by_socket_id_and_question() {
        let mut table = Names::new(10);
        let ticket = table.insert("me", &query(1, "a.b")).unwrap();
        let asked = table.ask(ticket, 3, 0, || 77).unwrap().query.clone();
        assert_eq!(asked, query(77, "a.b"));
        assert_eq!(table.find_answered(4, &answer(&asked)), Err(Stray::Unknown), "another socket");
        assert_eq!(table.find_answered(3, &answer(&query(1, "a.b"))), Err(Stray::Unknown), "another id");
        assert_eq!(table.find_answered(3, &answer(&query(77, "a.c"))), Err(Stray::WrongQuestion));
        assert_eq!(table.find_answered(3, &asked), Err(Stray::WrongQuestion), "no answer");
        assert_eq!(table.find_answered(3, &[0; 3]), Err(Stray::Unknown), "no message");
        assert_eq!(table.find_answered(3, &answer(&asked)), Ok(ticket));
        let pending = table.remove(ticket).unwrap();
        assert_eq!((pending.asker, pending.asker_id, pending.tries), ("me", 1, 1));
        assert_eq!(table.find_answered(3, &answer(&asked)), Err(Stray::Unknown), "it came twice");
        assert!(table.remove(ticket).is_none());
    }

    #[test]
    fn a_full_table_takes_nothing_until_something_leaves() {
        let mut table = Names::new(2);
        let first = table.insert("1", &query(1, "a")).unwrap();
        let second = table.insert("2", &query(1, "a")).unwrap();
        assert!(table.insert("3", &query(1, "a")).is_none());
        table.remove(first).unwrap();
        let third = table.insert("3", &query(1, "a")).unwrap();
        assert_ne!(third, first, "an old ticket is not taken for a new one");
        assert!(table.get_mut(first).is_none() && table.ask(first, 1, 0, || 1).is_none());
        assert_eq!(table.get_mut(third).map(|pending| pending.asker), Some("3"));
        assert_eq!(table.tickets(None), [third, second]);
        assert!(table.insert("4", &query(1, "a")).is_none());
    }

    #[test]
    fn an_id_that_is_taken_is_drawn_again() {
        let mut table = Names::new(10);
        let first = table.insert("1", &query(1, "a")).unwrap();
        table.ask(first, 0, 0, || 5).unwrap();
        let second = table.insert("2", &query(1, "a")).unwrap();
        let mut ids = [5, 5, 6].into_iter();
        let asked = table.ask(second, 0, 0, || ids.next().unwrap()).unwrap();
        assert_eq!(message::id(&asked.query), Some(6));
        let third = table.insert("3", &query(1, "a")).unwrap();
        assert!(table.ask(third, 0, 0, || 5).is_none(), "there are not always free ones");
        assert!(table.ask(third, 1, 0, || 5).is_some(), "another socket has ids of its own");
    }

    #[test]
    fn what_is_asked_again_is_not_answered_by_the_old_answer() {
        let mut table = Names::new(10);
        let ticket = table.insert("me", &query(1, "a")).unwrap();
        let old = table.ask(ticket, 0, 0, || 5).unwrap().query.clone();
        let new = table.ask(ticket, 1, 1, || 6).unwrap().query.clone();
        assert_eq!(table.find_answered(0, &answer(&old)), Err(Stray::Unknown));
        assert_eq!(table.find_answered(1, &answer(&new)), Ok(ticket));
        assert_eq!(table.get_mut(ticket).map(|pending| (pending.tries, pending.upstream)), Some((2, 1)));
        assert_eq!((table.tickets(Some(0)), table.tickets(Some(1))), (vec![], vec![ticket]));
        assert_eq!(table.asked.len(), 1, "the old place is free");
        assert_eq!(Ticket::new(ticket.number()), ticket);
    }
}
