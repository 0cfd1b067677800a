//! HTTP/1 for servers that answer requests without bodies: what is asked, and the head of an answer.
//!
//! A request that has a body, or that cannot be understood, is the last one of its connection, so
//! nothing of a body is ever taken for a request.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// More header lines than clients send.
const HEADERS_MAX: usize = 64;

/// What is to be done with what the path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `GET`.
    Get,
    /// `HEAD`: as `GET`, but without the body of the answer.
    Head,
    /// Any other.
    Other,
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// What is to be done.
    pub method: Method,
    /// What for: without the server's name, if there was one, and without a query.
    pub path: &'a str,
    /// Whether the client expects the connection to stay open.
    pub keeps_alive: bool,
    /// Whether a body follows.
    pub has_body: bool,
    /// How many bytes its head has.
    pub bytes: usize,
}

/// Why a request is not answered as it would like to be, and nothing more is read from its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It cannot be understood.
    Bad,
    /// Its head is too long, or has too many lines.
    HeadTooLong,
    /// It is of another version than 1.0 and 1.1.
    Version,
}

impl Refusal {
    /// The status that says so.
    pub const fn status(self) -> &'static str {
        match self {
            Self::Bad => "400 Bad Request",
            Self::HeadTooLong => "431 Request Header Fields Too Large",
            Self::Version => "505 HTTP Version Not Supported",
        }
    }
}

impl<'a> Request<'a> {
    /// The request at the front of `data`, whose head may have `head_bytes_max` bytes; `None` if it is
    /// not all there.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(data: &'a [u8], head_bytes_max: usize) -> Result<Option<Self>, Refusal> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        let bytes = match request.parse(data) {
            Ok(httparse::Status::Complete(bytes)) if bytes <= head_bytes_max => bytes,
            Ok(httparse::Status::Partial) if data.len() <= head_bytes_max => return Ok(None),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(Refusal::HeadTooLong),
            Err(httparse::Error::Version) => return Err(Refusal::Version),
            Err(_) => return Err(Refusal::Bad),
        };
        let is_newer = request.version == Some(1);
        let (mut hosts, mut closes, mut stays, mut has_body) = (0, false, false, false);
        for header in &*request.headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            if is("host") {
                hosts += 1;
            } else if is("connection") {
                closes |= has_token(header.value, "close");
                stays |= has_token(header.value, "keep-alive");
            } else if is("transfer-encoding") {
                has_body = true;
            } else if is("content-length") {
                let digits = header.value.trim_ascii();
                if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
                    return Err(Refusal::Bad);
                }
                has_body |= digits.iter().any(|digit| *digit != b'0');
            }
        }
        if hosts > 1 || is_newer && hosts == 0 {
            return Err(Refusal::Bad);
        }
        let method = match request.method {
            Some("GET") => Method::Get,
            Some("HEAD") => Method::Head,
            _ => Method::Other,
        };
        let keeps_alive = !closes && !has_body && (stays || is_newer);
        let path = path_of(request.path.unwrap_or_default());
        Ok(Some(Self { method, path, keeps_alive, has_body, bytes }))
    }
}

/// The path of what a request asks for, which may have the server's name in front and a query behind.
fn path_of(target: &str) -> &str {
    let rest = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://"));
    let path = rest.map_or(target, |rest| rest.find('/').map_or("/", |at| &rest[at..]));
    path.split_once('?').map_or(path, |(path, _)| path)
}

/// Whether a list of tokens, as of a `connection` header, has this one.
fn has_token(value: &[u8], token: &str) -> bool {
    let tokens = value.split(|&byte| byte == b',');
    tokens.map(<[u8]>::trim_ascii).any(|found| found.eq_ignore_ascii_case(token.as_bytes()))
}

/// Appends the head of an answer with a body of `length` bytes. `more` is further header lines, each with
/// its end.
pub fn write_head(out: &mut Vec<u8>, status: &str, length: usize, keeps_alive: bool, more: &[&str]) {
    let connection = if keeps_alive { "" } else { "connection: close\r\n" };
    write!(out, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{connection}")
        .expect("memory takes everything");
    for line in more {
        out.extend_from_slice(line.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// The line of an answer that says what time it is, written anew once a second.
#[derive(Debug, Default)]
pub struct DateLine {
    second: u64,
    line: String,
}

impl DateLine {
    /// The line, with its end.
    pub fn now(&mut self) -> &str {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != since.as_secs() {
            self.second = since.as_secs();
            self.line = format!("date: {}\r\n", date(self.second));
        }
        &self.line
    }
}

/// A time in seconds since 1970 as HTTP writes it.
fn date(second: u64) -> String {
    const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [(&str, u64); 12] = [
        ("Jan", 31),
        ("Feb", 28),
        ("Mar", 31),
        ("Apr", 30),
        ("May", 31),
        ("Jun", 30),
        ("Jul", 31),
        ("Aug", 31),
        ("Sep", 30),
        ("Oct", 31),
        ("Nov", 30),
        ("Dec", 31),
    ];
    let (days, time) = (second / 86_400, second % 86_400);
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut year, mut day) = (1970, days);
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let mut month = 0;
    while day >= MONTHS[month].1 + u64::from(month == 1 && is_leap(year)) {
        day -= MONTHS[month].1 + u64::from(month == 1 && is_leap(year));
        month += 1;
    }
    let weekday = WEEKDAYS[(days % 7) as usize];
    let (month, day) = (MONTHS[month].0, day + 1);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{weekday}, {day:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<Request<'_>>, Refusal> {
        Request::parse(text.as_bytes(), 200)
    }

    fn good(text: &str) -> Request<'_> {
        parse(text).expect("it can be understood").expect("it is all there")
    }

    #[test]
    fn requests_are_understood() {
        let text = "GET /a?b HTTP/1.1\r\nHost: x\r\n\r\nGET";
        let request = Request {
            method: Method::Get,
            path: "/a",
            keeps_alive: true,
            has_body: false,
            bytes: text.len() - 3,
        };
        assert_eq!(good(text), request);
        for (target, path) in [("http://x:80/a/b?c", "/a/b"), ("https://x", "/"), ("*", "*"), ("/?", "/")] {
            assert_eq!(good(&format!("HEAD {target} HTTP/1.0\r\n\r\n")).path, path);
        }
        assert_eq!(parse("GET / HTTP/1.1\r\nHost: x\r\n"), Ok(None));
        assert_eq!(good("\r\nDELETE / HTTP/1.0\r\n\r\n").method, Method::Other);
    }

    #[test]
    fn connections_stay_if_both_versions_say_so() {
        for (version, line, keeps_alive) in [
            ("1.1", "a: b", true),
            ("1.1", "Connection: Close", false),
            ("1.1", "connection: x , close", false),
            ("1.0", "a: b", false),
            ("1.0", "Connection: keep-alive", true),
            ("1.0", "Connection: keep-alive, close", false),
            ("1.1", "content-length: 1", false),
            ("1.1", "content-length: 00", true),
        ] {
            let request = format!("GET / HTTP/{version}\r\nhost: x\r\n{line}\r\n\r\n");
            assert_eq!(good(&request).keeps_alive, keeps_alive, "{request}");
        }
        for line in ["content-length: 2", "Transfer-Encoding: chunked"] {
            assert!(good(&format!("POST / HTTP/1.0\r\n{line}\r\n\r\n")).has_body);
        }
    }

    #[test]
    fn what_cannot_be_answered_is_refused() {
        for (text, refusal) in [
            ("GET / HTTP/1.1\r\n\r\n", Refusal::Bad),
            ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", Refusal::Bad),
            ("GET / HTTP/1.0\r\ncontent-length: -1\r\n\r\n", Refusal::Bad),
            ("GET / HTTP/1.0\r\ncontent-length:\r\n\r\n", Refusal::Bad),
            ("GET / HTTP/1.0\r\nno colon\r\n\r\n", Refusal::Bad),
            ("GET / HTTP/2.0\r\n\r\n", Refusal::Version),
        ] {
            assert_eq!(parse(text), Err(refusal), "{text}");
        }
        let lines = "a: b\r\n".repeat(HEADERS_MAX + 1);
        let text = format!("GET / HTTP/1.0\r\n{lines}\r\n");
        assert_eq!(Request::parse(text.as_bytes(), usize::MAX), Err(Refusal::HeadTooLong));
    }

    #[test]
    fn heads_are_refused_from_their_limit_on_whether_they_end_or_not() {
        let with = |bytes: usize| format!("GET /{} HTTP/1.0\r\n\r\n", "x".repeat(bytes - 18));
        assert_eq!(good(&with(200)).bytes, 200);
        assert_eq!(parse(&with(201)), Err(Refusal::HeadTooLong));
        assert_eq!(parse(&with(202)[..200]), Ok(None));
        assert_eq!(parse(&with(202)[..201]), Err(Refusal::HeadTooLong));
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (second, expected) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            assert_eq!(date(second), expected);
        }
        let mut line = DateLine::default();
        assert!(line.now().starts_with("date: ") && line.now().ends_with(" GMT\r\n"));
    }
}
