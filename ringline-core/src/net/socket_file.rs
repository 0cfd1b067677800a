//! The file that stands for a listening Unix socket.
//!
//! A file is removed only if it is the very one that was made: the socket holds on to it, so its number is
//! not used again while the socket is open.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A socket file of ours, which goes with its value.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

/// Tells a file from every other that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// The file that a bind has just made. It gets `mode`, if given, whatever the process's mask is.
    pub(super) fn made(path: PathBuf, mode: Option<u32>) -> io::Result<Self> {
        // Names the file itself without opening it, so that what is looked at is what is changed.
        let handle =
            OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(&path)?;
        let identity = socket_identity(&handle.metadata()?).ok_or(io::ErrorKind::AlreadyExists)?;
        let file = Self { path, identity };
        if let Some(mode) = mode {
            Self::set_mode(&handle, mode)?;
        }
        Ok(file)
    }

    fn set_mode(handle: &File, mode: u32) -> io::Result<()> {
        let has = handle.metadata()?.mode() & MODE_MAX;
        if has == mode {
            return Ok(());
        }
        let by_handle = format!("/proc/self/fd/{}", handle.as_raw_fd());
        fs::set_permissions(by_handle, Permissions::from_mode(mode))
    }
}

impl Drop for SocketFile {
    /// Removes the file, unless another one has taken its place.
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == Some(self.identity))
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::warn!("the socket file {} could not be removed: {error}", self.path.display());
        }
    }
}

/// The bits of a mode that a socket file has.
pub(super) const MODE_MAX: u32 = 0o777;

/// Which socket is at `path`; `None` if what is there is something else.
pub(super) fn identity(path: &Path) -> io::Result<Option<Identity>> {
    Ok(socket_identity(&fs::symlink_metadata(path)?))
}

fn socket_identity(found: &fs::Metadata) -> Option<Identity> {
    let identity = Identity { device: found.dev(), inode: found.ino() };
    found.file_type().is_socket().then_some(identity)
}
