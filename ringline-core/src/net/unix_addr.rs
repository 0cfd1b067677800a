//! Addresses of Unix sockets.
//!
//! Invariant: whatever a `UnixAddr` holds fits into the kernel's structure of 108 bytes, and a path in it
//! has no byte that would end it early. So the kernel sees the address that was asked for, or none.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What the kernel's structure has room for.
const ROOM_BYTES: usize = 108;

/// The address of a Unix socket: a path, a name in the kernel's abstract name space, or nothing.
///
/// # Examples
///
/// ```
/// use ringline_core::net::UnixAddr;
///
/// let file = UnixAddr::path("/run/app/http.sock")?;
/// assert_eq!(file.to_string(), "unix:/run/app/http.sock");
/// let name = UnixAddr::abstract_name("app-http")?;
/// assert_eq!(name.to_string(), "unix:@app-http");
/// assert!(UnixAddr::path("x".repeat(200)).unwrap_err().to_string().contains("107"));
/// # Ok::<(), ringline_core::net::UnixAddrError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UnixAddr(Name);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Name {
    None,
    Path(Box<[u8]>),
    Abstract(Box<[u8]>),
}

impl UnixAddr {
    /// How long a path or an abstract name may be, in bytes: one less than the kernel has room for, because
    /// a path ends with a zero byte there and an abstract name begins with one.
    pub const BYTES_MAX: usize = ROOM_BYTES - 1;

    /// A path in the file system.
    ///
    /// # Errors
    ///
    /// [`UnixAddrError`] for a path that is empty, longer than [`BYTES_MAX`](Self::BYTES_MAX) or holds a
    /// zero byte.
    pub fn path(path: impl AsRef<Path>) -> Result<Self, UnixAddrError> {
        let bytes = path.as_ref().as_os_str().as_bytes();
        if bytes.is_empty() {
            return Err(UnixAddrError::EmptyPath);
        }
        if let Some(at) = bytes.iter().position(|&byte| byte == 0) {
            return Err(UnixAddrError::ZeroByte { at });
        }
        checked(bytes).map(|bytes| Self(Name::Path(bytes)))
    }

    /// A name in the abstract name space: any bytes, zero bytes too. Such a name belongs to the network name
    /// space, has no permissions, and is free again when its socket is closed.
    ///
    /// # Errors
    ///
    /// [`UnixAddrError::TooLong`] for more than [`BYTES_MAX`](Self::BYTES_MAX).
    pub fn abstract_name(name: impl AsRef<[u8]>) -> Result<Self, UnixAddrError> {
        checked(name.as_ref()).map(|bytes| Self(Name::Abstract(bytes)))
    }

    /// No name at all: what most clients have. To listen on, it stands for an abstract name that the kernel
    /// chooses, as port 0 does for a port.
    pub const fn unnamed() -> Self {
        Self(Name::None)
    }

    /// The path, if it is one.
    pub fn as_path(&self) -> Option<&Path> {
        match &self.0 {
            Name::Path(bytes) => Some(Path::new(OsStr::from_bytes(bytes))),
            Name::None | Name::Abstract(_) => None,
        }
    }

    /// The abstract name, if it is one.
    pub fn as_abstract_name(&self) -> Option<&[u8]> {
        match &self.0 {
            Name::Abstract(bytes) => Some(bytes),
            Name::None | Name::Path(_) => None,
        }
    }

    /// Whether it is no name at all.
    pub fn is_unnamed(&self) -> bool {
        self.0 == Name::None
    }

    /// The address behind the bytes that the kernel has written, without the family; `None` for more than
    /// there is room for.
    pub(crate) fn from_kernel(bytes: &[u8]) -> Option<Self> {
        let name = match bytes {
            [] => Name::None,
            [0, name @ ..] => Name::Abstract(name.into()),
            path => {
                // A path that fills all the room has no zero byte behind it.
                let end = path.iter().position(|&byte| byte == 0).unwrap_or(path.len());
                Name::Path(path[..end].into())
            }
        };
        (bytes.len() <= ROOM_BYTES).then_some(Self(name))
    }

    /// The bytes behind the family, as the kernel wants them: an abstract name begins with a zero byte.
    pub(crate) fn to_kernel(&self) -> Vec<u8> {
        match &self.0 {
            Name::None => Vec::new(),
            Name::Path(bytes) => bytes.to_vec(),
            Name::Abstract(bytes) => [&[0], &bytes[..]].concat(),
        }
    }
}

impl fmt::Display for UnixAddr {
    /// `unix:` and the path, or `unix:@` and the name; a byte that is no text is shown as its escape.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Name::None => f.write_str("unix:"),
            Name::Path(bytes) => write!(f, "unix:{}", bytes.escape_ascii()),
            Name::Abstract(bytes) => write!(f, "unix:@{}", bytes.escape_ascii()),
        }
    }
}

impl fmt::Debug for UnixAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why there is no such address of a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnixAddrError {
    /// An empty path is no address.
    #[error("the path of a Unix socket is empty: give one, or an abstract name")]
    EmptyPath,
    /// A path cannot hold a zero byte.
    #[error("the path of a Unix socket has a zero byte in place {at}: leave it out")]
    ZeroByte {
        /// Where it is, from 0.
        at: usize,
    },
    /// The kernel has no room for it.
    #[error(
        "the address of a Unix socket has {len} bytes and may have {max}: choose a shorter path, for instance \
         one relative to the working directory"
    )]
    TooLong {
        /// How long it is.
        len: usize,
        /// How long it may be.
        max: usize,
    },
}

fn checked(bytes: &[u8]) -> Result<Box<[u8]>, UnixAddrError> {
    let (len, max) = (bytes.len(), UnixAddr::BYTES_MAX);
    if len <= max { Ok(bytes.into()) } else { Err(UnixAddrError::TooLong { len, max }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_limit_is_met_and_not_passed() {
        let (fits, long) = ("x".repeat(107), "x".repeat(108));
        assert!(UnixAddr::path(&fits).is_ok() && UnixAddr::abstract_name(&fits).is_ok());
        let error = UnixAddrError::TooLong { len: 108, max: 107 };
        assert_eq!(UnixAddr::path(&long), Err(error));
        assert_eq!(UnixAddr::abstract_name(&long), Err(error));
        assert!(error.to_string().contains("107"));
    }

    #[test]
    fn a_path_has_bytes_and_no_zero_among_them() {
        assert_eq!(UnixAddr::path(""), Err(UnixAddrError::EmptyPath));
        assert_eq!(UnixAddr::path("a\0b"), Err(UnixAddrError::ZeroByte { at: 1 }));
        assert!(UnixAddr::abstract_name("a\0b").is_ok());
    }

    #[test]
    fn each_kind_is_told_apart_and_printed() {
        let path = UnixAddr::path("/run/x.sock").unwrap();
        assert_eq!(path.as_path(), Some(Path::new("/run/x.sock")));
        assert!(path.as_abstract_name().is_none() && !path.is_unnamed());
        let name = UnixAddr::abstract_name(b"x\0\xff").unwrap();
        assert_eq!(name.as_abstract_name(), Some(&b"x\0\xff"[..]));
        assert_eq!(name.to_string(), "unix:@x\\x00\\xff");
        assert_ne!(UnixAddr::path("x").unwrap(), UnixAddr::abstract_name("x").unwrap());
        assert!(UnixAddr::unnamed().is_unnamed());
        assert_eq!(UnixAddr::unnamed().to_string(), "unix:");
    }

    #[test]
    fn what_the_kernel_writes_is_read_as_far_as_it_goes() {
        let read = |bytes: &[u8]| UnixAddr::from_kernel(bytes);
        assert_eq!(read(b""), Some(UnixAddr::unnamed()));
        assert_eq!(read(b"/x\0"), UnixAddr::path("/x").ok());
        let full = [b'x'; 108];
        assert_eq!(read(&full).unwrap().as_path().unwrap().as_os_str().len(), 108);
        assert_eq!(read(&[b'x'; 109]), None);
    }

    proptest! {
        #[test]
        fn abstract_names_survive_the_way_through_the_kernels_form(name in prop::collection::vec(0_u8.., 0..=107)) {
            let addr = UnixAddr::abstract_name(&name).unwrap();
            prop_assert_eq!(UnixAddr::from_kernel(&addr.to_kernel()), Some(addr));
        }
    }
}
