//! Where a page is: a URL, or just an address.

use std::error::Error;
use std::net::{SocketAddr, ToSocketAddrs};

/// Where a page is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    pub(crate) is_tls: bool,
    /// The name or address of the server, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// What a request says is the server: the port is left out if it is the usual one.
    pub(crate) authority: String,
    pub(crate) path: String,
}

impl Site {
    /// `http://HOST[:PORT][/PATH]`, the same with `https`, or `HOST:PORT`, whose path is `path`.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(crate) fn parse(text: &str, path: Option<&str>) -> Result<Self, Box<dyn Error>> {
        let bad = |reason: &str| -> Box<dyn Error> {
            format!("{text}: {reason}; give a URL such as https://example.org/page, or HOST:PORT").into()
        };
        let (usual_port, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Some(80), rest),
            Some(("https", rest)) => (Some(443), rest),
            Some(_) => return Err(bad("neither http nor https")),
            None => (None, text),
        };
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, own_path) = rest.split_at(at);
        if authority.contains('@') {
            return Err(bad("there is a user's name in it"));
        }
        let path = match (own_path, path) {
            ("", path) => path.unwrap_or("/").to_string(),
            (own, None) if own.starts_with('?') => format!("/{own}"),
            (own, None) => own.to_string(),
            (_, Some(_)) => return Err(bad("there is a path in it, and another one beside it")),
        };
        if path.bytes().any(|byte| byte.is_ascii_control() || byte == b' ') {
            return Err(bad("there are bytes in its path that have to be escaped"));
        }
        // A colon within brackets is one of an IPv6 address.
        let name_end = authority.rfind(']').map_or(0, |at| at + 1);
        let (name, port) = match authority[name_end..].rfind(':') {
            Some(at) => {
                let (name, port) = authority.split_at(name_end + at);
                (name, Some(port[1..].parse().map_err(|_| bad("its port is not one"))?))
            }
            None => (authority, None),
        };
        let host = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        if host.is_empty() {
            return Err(bad("there is no host in it"));
        }
        let port = port.or(usual_port).ok_or_else(|| bad("there is no port in it"))?;
        let authority = if Some(port) == usual_port { name.to_string() } else { format!("{name}:{port}") };
        Ok(Self { is_tls: usual_port == Some(443), host: host.to_string(), port, authority, path })
    }

    /// The first of its addresses.
    ///
    /// # Errors
    ///
    /// It has none.
    pub(crate) fn addr(&self) -> Result<SocketAddr, Box<dyn Error>> {
        let named = |error| format!("{}: {error}", self.host);
        let mut addrs = (self.host.as_str(), self.port).to_socket_addrs().map_err(named)?;
        Ok(addrs.next().ok_or_else(|| format!("{}: the server has no address", self.host))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_addresses_are_understood() {
        for (text, is_tls, host, port, authority, path) in [
            ("http://a.test", false, "a.test", 80, "a.test", "/"),
            ("https://a.test/", true, "a.test", 443, "a.test", "/"),
            ("https://a.test:443/b?c=/#d", true, "a.test", 443, "a.test", "/b?c=/"),
            ("https://a.test:8443?c", true, "a.test", 8443, "a.test:8443", "/?c"),
            ("https://[::1]:80/x", true, "::1", 80, "[::1]:80", "/x"),
            ("http://[2001:db8::7]", false, "2001:db8::7", 80, "[2001:db8::7]", "/"),
            ("127.0.0.1:8080", false, "127.0.0.1", 8080, "127.0.0.1:8080", "/"),
        ] {
            let site = Site::parse(text, None).unwrap_or_else(|error| panic!("{error}"));
            let expected =
                Site { is_tls, host: host.into(), port, authority: authority.into(), path: path.into() };
            assert_eq!(site, expected, "{text}");
        }
        assert_eq!(Site::parse("a.test:80", Some("/p")).map(|site| site.path).unwrap_or_default(), "/p");
        assert_eq!(Site::parse("http://a.test", Some("/p")).map(|site| site.path).unwrap_or_default(), "/p");
    }

    #[test]
    fn what_is_wrong_with_others_is_said() {
        for (text, path, reason) in [
            ("ftp://a.test/", None, "neither http nor https"),
            ("a.test", None, "no port"),
            ("https://", None, "no host"),
            ("https://:443/", None, "no host"),
            ("https://a.test:x/", None, "its port"),
            ("https://a.test:65536/", None, "its port"),
            ("https://me@a.test/", None, "a user's name"),
            ("https://a.test/b", Some("/c"), "another one"),
            ("https://a.test/b c", None, "escaped"),
            ("a.test:80", Some("/\r\nx: y"), "escaped"),
        ] {
            let error = Site::parse(text, path).expect_err(text).to_string();
            assert!(error.contains(reason) && error.contains("give a URL"), "{error}");
        }
    }
}
