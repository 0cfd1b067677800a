//! What the core has under way, and the core's half of the contract.
//!
//! An operation is under way from its push until its last completion was handed over: what the
//! kernel has finished meanwhile the core cannot know yet. A rule that is broken comes back as a
//! sentence; whoever asked decides how loudly to say it.

use crate::op::{Fd, Kind, Op, Tag, UserData};
use std::collections::BTreeMap;

/// The rule that was broken, and by which operation.
#[derive(Debug)]
pub(super) struct Breach(pub(super) String);

/// The kind of an operation, without what it owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Accept,
    Connect,
    Recv,
    Peek,
    SendNow,
    Send,
    Reset,
    Shutdown,
    Close,
    Cancel,
    SetOption,
    RecvDatagrams,
    SendDatagram,
    Poll,
}

/// One operation under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub(super) role: Role,
    /// The socket that it is about, unless it is the socket's close.
    pub(super) fd: Option<Fd>,
    /// Tells it from a later operation under the same tag.
    pub(super) serial: u64,
    /// The kernel is through with it, and its last completion is on the way.
    is_finished: bool,
    /// None of its completions may be reported before this turn, so that they stay in order.
    held_until: u64,
}

/// How far a socket is from being connected. Accepted ones are from the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Dialing {
    #[default]
    Done,
    /// It was made, and no connect has been pushed.
    Fresh,
    /// The core does not know that it is connected, or it is not.
    Begun,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Closed,
    Open,
    Closing,
}

/// What the core may do with one descriptor.
#[derive(Debug, Default)]
struct Account {
    phase: Phase,
    dialing: Dialing,
    under_way: u32,
    is_receiving: bool,
    is_sending: bool,
    /// The kernel was told to drop what the peer has not acknowledged.
    is_reset: bool,
    /// The turn in which the close that freed the number is reported, at the earliest.
    free_from: u64,
    /// What a cancel may name.
    tags: Vec<UserData>,
}

/// The books.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    flights: BTreeMap<u64, Flight>,
    accounts: Vec<Account>,
    /// What a cancel may name, with the socket it belongs to; accepts belong to none.
    targets: BTreeMap<u64, Option<Fd>>,
    /// What is being cancelled: a cancel's own tag, and the one that it names.
    cancels: BTreeMap<u64, u64>,
    /// How many sends under a tag are over and have not got their memory back.
    lent: BTreeMap<u64, u32>,
    serial: u64,
}

impl Ledger {
    /// A descriptor came into being by an accept, which is reported behind the close that freed the
    /// number.
    pub(super) fn open(&mut self, fd: Fd, accept: UserData) {
        let account = self.account_of(fd, Dialing::Done);
        let free_from = account.free_from;
        let flight = self.flights.get_mut(&accept.bits()).expect("it is under way");
        flight.held_until = flight.held_until.max(free_from);
    }

    /// A descriptor was made for a connection of the core's.
    pub(super) fn make(&mut self, fd: Fd) {
        self.account_of(fd, Dialing::Fresh);
    }

    /// A descriptor came into being that is connected.
    pub(super) fn adopt(&mut self, fd: Fd) {
        self.account_of(fd, Dialing::Done);
    }

    /// The core was told that a socket of its own is connected.
    pub(super) fn connected(&mut self, connect: UserData) {
        if let Some(fd) = self.flights[&connect.bits()].fd {
            self.accounts[fd.0 as usize].dialing = Dialing::Done;
        }
    }

    /// A descriptor is gone by a close whose completion was [scheduled](Ledger::schedule).
    pub(super) fn close(&mut self, fd: Fd, close: UserData) {
        let account = &mut self.accounts[fd.0 as usize];
        account.phase = Phase::Closed;
        account.free_from = self.flights[&close.bits()].held_until;
    }

    /// Writes down an operation that [`Ledger::check`] let pass.
    pub(super) fn record(&mut self, user_data: UserData, op: &Op) {
        let (role, fd) = match op {
            Op::Accept { .. } => (Role::Accept, None),
            Op::Poll { .. } => (Role::Poll, None),
            Op::Connect { fd, .. } => {
                self.accounts[fd.0 as usize].dialing = Dialing::Begun;
                (Role::Connect, Some(*fd))
            }
            Op::Recv { fd } => (Role::Recv, Some(*fd)),
            Op::Peek { fd } => (Role::Peek, Some(*fd)),
            Op::SendNow { fd, .. } => (Role::SendNow, Some(*fd)),
            Op::Send { fd, .. } => (Role::Send, Some(*fd)),
            Op::ShutdownWrite { fd } => (Role::Shutdown, Some(*fd)),
            Op::Reset { fd } => {
                self.accounts[fd.0 as usize].is_reset = true;
                (Role::Reset, Some(*fd))
            }
            Op::Close { fd } => {
                self.begin_close(*fd);
                (Role::Close, None)
            }
            Op::SetOption { fd, .. } => (Role::SetOption, Some(*fd)),
            Op::RecvDatagrams { fd } if is_stamped(user_data) => (Role::Recv, Some(*fd)),
            // Their sockets keep an account of their own.
            Op::RecvDatagrams { .. } => (Role::RecvDatagrams, None),
            Op::SendDatagram { .. } => (Role::SendDatagram, None),
            Op::Cancel { target } => (Role::Cancel, self.targets.get(&target.bits()).copied().flatten()),
        };
        if let Some(fd) = fd {
            let account = &mut self.accounts[fd.0 as usize];
            account.under_way += 1;
            account.is_receiving |= role == Role::Recv;
            account.is_sending |= matches!(role, Role::Send | Role::SendNow);
            if role != Role::Cancel && !account.tags.contains(&user_data) {
                account.tags.push(user_data);
            }
        }
        if let Op::Cancel { target } = op {
            self.cancels.insert(user_data.bits(), target.bits());
        } else if role != Role::Close {
            self.targets.insert(user_data.bits(), fd);
        }
        self.serial += 1;
        let flight = Flight { role, fd, serial: self.serial, is_finished: false, held_until: 0 };
        self.flights.insert(user_data.bits(), flight);
    }

    /// The turn in which a completion that is ready for `turn` may be reported: not before those of
    /// the same operation that were held back.
    pub(super) fn schedule(&mut self, user_data: UserData, turn: u64, ends: bool) -> u64 {
        let flight = self.flights.get_mut(&user_data.bits()).expect("it is under way");
        debug_assert!(!flight.is_finished, "nothing completes after its last completion");
        flight.is_finished = ends;
        flight.held_until = flight.held_until.max(turn);
        flight.held_until
    }

    /// The last completion of an operation was handed over. It `lends` if its memory is yet to come.
    pub(super) fn settle(&mut self, user_data: UserData, lends: bool) {
        if lends {
            *self.lent.entry(user_data.bits()).or_default() += 1;
        }
        let flight = self.flights.remove(&user_data.bits()).expect("it is under way");
        self.cancels.remove(&user_data.bits());
        if let Some(fd) = flight.fd {
            let account = &mut self.accounts[fd.0 as usize];
            account.under_way -= 1;
            account.is_receiving &= flight.role != Role::Recv;
            account.is_sending &= !matches!(flight.role, Role::Send | Role::SendNow);
        }
    }

    /// The memory of a send that was over was handed over.
    pub(super) fn returned(&mut self, user_data: UserData) {
        let count = self.lent.get_mut(&user_data.bits()).expect("it was lent");
        *count -= 1;
        if *count == 0 {
            self.lent.remove(&user_data.bits());
        }
    }

    /// The core's half of the contract, for one operation.
    pub(super) fn check(&self, user_data: UserData, op: &Op) -> Result<(), Breach> {
        let Some(tag) = user_data.decode().filter(|tag| tag.encode() == user_data) else {
            return Err(Breach(format!("an operation carries a tag, not {:#x}", user_data.bits())));
        };
        if matches!(tag.kind, Kind::Staged | Kind::Wake) {
            return breach("tags of this kind never leave a backend", tag);
        }
        if self.flights.contains_key(&user_data.bits()) {
            return breach("two operations are never in flight under one tag", tag);
        }
        if self.cancels.values().any(|target| *target == user_data.bits()) {
            return breach("nothing starts under a tag while a cancel of it is under way", tag);
        }
        match op {
            Op::RecvDatagrams { fd } if is_stamped(user_data) => {
                refuse(self.connection(*fd, tag)?.is_receiving, "one live receive for a socket", tag)
            }
            Op::Accept { .. } | Op::RecvDatagrams { .. } | Op::SendDatagram { .. } | Op::Poll { .. } => {
                Ok(())
            }
            Op::Connect { fd, .. } => {
                let account = self.account(*fd, tag)?;
                refuse(account.dialing != Dialing::Fresh, "a socket of ours is connected once", tag)
            }
            Op::Recv { fd } => {
                refuse(self.connection(*fd, tag)?.is_receiving, "one live receive for a socket", tag)
            }
            Op::SendNow { fd, span } => {
                refuse(self.connection(*fd, tag)?.is_sending, ONE_SEND, tag)?;
                refuse(span.len == 0, "a send has something to send", tag)
            }
            Op::Send { fd, parcel, .. } => {
                refuse(self.connection(*fd, tag)?.is_sending, ONE_SEND, tag)?;
                refuse(parcel.pieces().any(|piece| piece.len() == 0), "a send has something to send", tag)?;
                refuse(parcel.links().len() == 0, "a send has something to send", tag)
            }
            Op::Reset { fd } => self.account(*fd, tag).map(|_| ()),
            Op::ShutdownWrite { fd } | Op::SetOption { fd, .. } | Op::Peek { fd } => {
                self.connection(*fd, tag).map(|_| ())
            }
            Op::Close { fd } => {
                let account = self.account(*fd, tag)?;
                refuse(account.under_way > 0, "no close before everything else has completed", tag)?;
                let lends = account.tags.iter().any(|tag| self.lent.contains_key(&tag.bits()));
                refuse(lends && !account.is_reset, "a close that memory waits for is a reset", tag)
            }
            Op::Cancel { target } => refuse(
                !self.targets.contains_key(&target.bits()),
                "a cancel names an operation of a descriptor that is open",
                tag,
            ),
        }
    }

    /// Nothing is open, and nothing is under way but `expected`.
    pub(super) fn check_at_rest(&self, expected: &[UserData]) -> Result<(), Breach> {
        let stray: Vec<_> = self
            .under_way()
            .filter(|user_data| !expected.contains(user_data))
            .map(UserData::decode)
            .collect();
        if !stray.is_empty() {
            return Err(Breach(format!("at rest nothing is under way, but there is {stray:?}")));
        }
        if let Some(bits) = self.lent.keys().next() {
            let tag = UserData::from_bits(*bits).decode();
            return Err(Breach(format!("at rest no memory is lent, but that of {tag:?} is")));
        }
        match self.accounts.iter().position(|account| account.phase != Phase::Closed) {
            Some(fd) => Err(Breach(format!("at rest no socket is open, but number {fd} is"))),
            None => Ok(()),
        }
    }

    /// An operation that the kernel has not finished.
    pub(super) fn unfinished(&self, user_data: UserData) -> Option<Flight> {
        self.flights.get(&user_data.bits()).copied().filter(|flight| !flight.is_finished)
    }

    /// The tags of everything under way, in order.
    pub(super) fn under_way(&self) -> impl Iterator<Item = UserData> {
        self.flights.keys().map(|&bits| UserData::from_bits(bits))
    }

    /// How much is under way.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.flights.len()
    }

    fn account(&self, fd: Fd, tag: Tag) -> Result<&Account, Breach> {
        match self.accounts.get(fd.0 as usize) {
            Some(account) if account.phase == Phase::Open => Ok(account),
            Some(account) if account.phase == Phase::Closing => {
                Err(Breach(format!("no operation on a socket after its close: {fd:?}, {tag:?}")))
            }
            _ => Err(Breach(format!("no operation on a socket that is closed: {fd:?}, {tag:?}"))),
        }
    }

    /// The account of a socket that is connected, as far as the core knows.
    fn connection(&self, fd: Fd, tag: Tag) -> Result<&Account, Breach> {
        let account = self.account(fd, tag)?;
        let rule = "nothing but a close on a socket that is not connected";
        refuse(account.dialing != Dialing::Done, rule, tag).map(|()| account)
    }

    /// The account of a descriptor that has just come into being.
    fn account_of(&mut self, fd: Fd, dialing: Dialing) -> &mut Account {
        let at = fd.0 as usize;
        if at >= self.accounts.len() {
            self.accounts.resize_with(at + 1, Account::default);
        }
        let account = &mut self.accounts[at];
        account.phase = Phase::Open;
        account.dialing = dialing;
        account.is_reset = false;
        account
    }

    fn begin_close(&mut self, fd: Fd) {
        let account = &mut self.accounts[fd.0 as usize];
        account.phase = Phase::Closing;
        for tag in account.tags.drain(..) {
            self.targets.remove(&tag.bits());
        }
    }
}

/// Whether this is a receive of a connection that tells the time.
pub(super) fn is_stamped(user_data: UserData) -> bool {
    user_data.decode().is_some_and(|tag| tag.kind == Kind::RecvStamped)
}

const ONE_SEND: &str = "one send in flight for a socket";

fn refuse(is_broken: bool, rule: &str, tag: Tag) -> Result<(), Breach> {
    if is_broken { breach(rule, tag) } else { Ok(()) }
}

fn breach<T>(rule: &str, tag: Tag) -> Result<T, Breach> {
    Err(Breach(format!("{rule}: {tag:?}")))
}
