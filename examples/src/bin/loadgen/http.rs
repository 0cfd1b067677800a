//! Answers of HTTP/1.1 whose length is said in their head.

use super::protocol::Read;
use super::tally::Failure;

/// A head that is longer is no head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 128;

/// An answer whose head was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Body {
    /// Bytes still to come.
    left: u64,
    status: u16,
    /// The server closes the connection behind it.
    pub(crate) is_last: bool,
}

/// Reads on in an answer; `body` is set as soon as its head is whole.
pub(crate) fn read(body: &mut Option<Body>, data: &[u8]) -> Read {
    let mut head_bytes = 0;
    let mut answer = match *body {
        Some(answer) => answer,
        None => match head(data) {
            Ok(Some((answer, bytes))) if (100..200).contains(&answer.status) => {
                return Read::Partial { bytes };
            }
            Ok(Some((answer, bytes))) => {
                head_bytes = bytes;
                answer
            }
            Ok(None) if data.len() < HEAD_BYTES_MAX => return Read::Partial { bytes: 0 },
            Ok(None) => return Read::Wrong(Failure::HttpMalformed),
            Err(failure) => return Read::Wrong(failure),
        },
    };
    let here = answer.left.min((data.len() - head_bytes) as u64);
    answer.left -= here;
    *body = Some(answer);
    let bytes = head_bytes + here as usize;
    if answer.left > 0 {
        return Read::Partial { bytes };
    }
    let refusal = (answer.status >= 400).then_some(Failure::HttpStatus(answer.status));
    Read::Answered { bytes, refusal }
}

/// The answer that begins here and the length of its head, if that is whole.
fn head(data: &[u8]) -> Result<Option<(Body, usize)>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let bytes = match response.parse(data) {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Failure::HttpMalformed),
    };
    let status = response.code.unwrap_or(0);
    let mut length = None;
    let mut is_last = response.version != Some(1);
    for header in &*response.headers {
        match header.name.to_ascii_lowercase().as_str() {
            "content-length" => length = Some(parse_length(header.value)?),
            "transfer-encoding" => return Err(Failure::HttpMalformed),
            "connection" => is_last |= has_close(header.value),
            _ => {}
        }
    }
    let has_body = !matches!(status, 100..=199 | 204 | 304);
    match (has_body, length) {
        (false, _) => Ok(Some((Body { left: 0, status, is_last }, bytes))),
        (true, Some(left)) => Ok(Some((Body { left, status, is_last }, bytes))),
        // Such a body ends with the connection or in pieces.
        (true, None) => Err(Failure::HttpMalformed),
    }
}

/// Whether a `connection` header has the token `close`.
fn has_close(value: &[u8]) -> bool {
    let tokens = value.split(|&byte| byte == b',');
    tokens.map(<[u8]>::trim_ascii).any(|token| token.eq_ignore_ascii_case(b"close"))
}

fn parse_length(value: &[u8]) -> Result<u64, Failure> {
    let text = std::str::from_utf8(value.trim_ascii()).ok();
    text.and_then(|text| text.parse().ok()).ok_or(Failure::HttpMalformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_in_any_pieces() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        for piece in 1..=answer.len() {
            let (mut body, mut done, mut end) = (None, 0, 0);
            let refusal = loop {
                end = (end + piece).min(answer.len());
                match read(&mut body, &answer[done..end]) {
                    Read::Partial { bytes } => done += bytes,
                    Read::Answered { bytes, refusal } => {
                        done += bytes;
                        break refusal;
                    }
                    Read::Wrong(failure) => panic!("{failure}"),
                }
            };
            assert_eq!((done, refusal), (answer.len(), None), "in pieces of {piece}");
        }
    }

    #[test]
    fn a_status_is_judged_and_the_next_answer_is_left() {
        let mut body = None;
        let data = b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\nconnection: close\r\n\r\nnoHTTP/1.1";
        let refusal = Some(Failure::HttpStatus(404));
        assert_eq!(read(&mut body, data), Read::Answered { bytes: data.len() - 8, refusal });
        assert!(body.is_some_and(|body| body.is_last));
    }

    #[test]
    fn an_interim_answer_is_passed_over() {
        let mut body = None;
        assert_eq!(read(&mut body, b"HTTP/1.1 100 Continue\r\n\r\n"), Read::Partial { bytes: 25 });
        let none = b"HTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(read(&mut body, none), Read::Answered { bytes: none.len(), refusal: None });
    }

    #[test]
    fn what_has_no_length_is_refused() {
        for data in [
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "PONG\r\n\r\n",
        ] {
            assert_eq!(read(&mut None, data.as_bytes()), Read::Wrong(Failure::HttpMalformed), "{data:?}");
        }
        let endless = [b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &vec![b'y'; HEAD_BYTES_MAX]].concat();
        assert_eq!(read(&mut None, &endless), Read::Wrong(Failure::HttpMalformed));
    }
}
