//! What a client's line means.
//!
//! Invariant: what is parsed may be shown on any terminal: it is UTF-8 without control characters, and
//! names have letters, digits, `-` and `_` only.

use std::fmt;

pub(crate) const NAME_BYTES_MAX: usize = 32;

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command<'a> {
    /// Be in a room, and talk there from now on.
    Join(&'a str),
    /// Be in a room no more; in the one to talk in, if it is not named.
    Leave(Option<&'a str>),
    Nick(&'a str),
    Quit,
    Say(&'a str),
    /// An empty line.
    Nothing,
}

/// Why a line is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nonsense {
    NoText,
    NoName,
    BadName,
    NoSuchCommand,
}

impl<'a> Command<'a> {
    /// Parses a line, without the byte that ends it.
    pub(crate) fn parse(line: &'a [u8]) -> Result<Self, Nonsense> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = std::str::from_utf8(line).map_err(|_| Nonsense::NoText)?;
        if line.chars().any(|char| char.is_control() && char != '\t') {
            return Err(Nonsense::NoText);
        }
        if line.trim().is_empty() {
            return Ok(Self::Nothing);
        }
        let Some(command) = line.strip_prefix('/') else { return Ok(Self::Say(line)) };
        let mut words = command.split_whitespace();
        let verb = words.next();
        match (verb, words.next()) {
            (Some("join"), Some(room)) => Ok(Self::Join(name(room)?)),
            (Some("nick"), Some(nick)) => Ok(Self::Nick(name(nick)?)),
            (Some("join" | "nick"), None) => Err(Nonsense::NoName),
            (Some("leave"), room) => Ok(Self::Leave(room.map(name).transpose()?)),
            (Some("quit"), _) => Ok(Self::Quit),
            _ => Err(Nonsense::NoSuchCommand),
        }
    }
}

fn name(text: &str) -> Result<&str, Nonsense> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if text.len() <= NAME_BYTES_MAX && text.bytes().all(is_name) { Ok(text) } else { Err(Nonsense::BadName) }
}

impl fmt::Display for Nonsense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoText => f.write_str("this is no text; send UTF-8 without control characters"),
            Self::NoName => f.write_str("a name is missing"),
            Self::BadName => {
                write!(f, "a name has letters, digits, - and _ only, and {NAME_BYTES_MAX} bytes at most")
            }
            Self::NoSuchCommand => {
                f.write_str("the commands are /join ROOM, /leave ROOM, /nick NAME and /quit")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_text_are_told_apart() {
        for (line, command) in [
            ("hello, /join", Command::Say("hello, /join")),
            (" /join tea", Command::Say(" /join tea")),
            ("grüße\t☕\r", Command::Say("grüße\t☕")),
            ("/join tea", Command::Join("tea")),
            ("/join  tea_2 and more\r", Command::Join("tea_2")),
            ("/nick Bo-b", Command::Nick("Bo-b")),
            ("/leave", Command::Leave(None)),
            ("/leave tea", Command::Leave(Some("tea"))),
            ("/quit now", Command::Quit),
            ("", Command::Nothing),
            (" \r", Command::Nothing),
        ] {
            assert_eq!(Command::parse(line.as_bytes()), Ok(command), "{line:?}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let long = format!("/nick {}", "n".repeat(NAME_BYTES_MAX + 1));
        for (line, nonsense) in [
            (&b"\xff\xfe"[..], Nonsense::NoText),
            (b"\x1b[2J", Nonsense::NoText),
            (b"a\rb", Nonsense::NoText),
            (b"/join", Nonsense::NoName),
            (b"/nick a:b", Nonsense::BadName),
            (b"/leave \xc3\xa4", Nonsense::BadName),
            (long.as_bytes(), Nonsense::BadName),
            (b"/", Nonsense::NoSuchCommand),
            (b"/jOIN a", Nonsense::NoSuchCommand),
        ] {
            assert_eq!(Command::parse(line), Err(nonsense), "{line:?}");
        }
        assert!(Command::parse(&long.as_bytes()[..long.len() - 1]).is_ok());
    }
}
