//! What stands in the way of a socket file, who may use it, and when it goes.

use super::*;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A directory of its own for one test, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringline-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self) -> PathBuf {
        self.0.join("s")
    }

    fn addr(&self) -> UnixAddr {
        UnixAddr::path(self.path()).unwrap()
    }

    fn listen(&self) -> Result<Listener, UnixListenError> {
        self.listen_with(&UnixListenOptions::default())
    }

    fn listen_with(&self, options: &UnixListenOptions) -> Result<Listener, UnixListenError> {
        bind_unix(self.addr(), options).map_err(|error| match error {
            ListenError::Unix(error) => error,
            error => panic!("{error}"),
        })
    }

    fn mode(&self) -> u32 {
        fs::symlink_metadata(self.path()).unwrap().mode() & 0o7777
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A socket file that nobody listens on any more.
fn desert(folder: &Folder) {
    drop(UnixListener::bind(folder.path()).unwrap());
    assert!(folder.path().exists(), "the standard library leaves it");
}

#[test]
fn twenty_servers_listen_on_one_path_one_after_the_other() {
    let folder = Folder::new("restarts");
    for _ in 0..20 {
        let listener = folder.listen().unwrap();
        assert_eq!(listener.local_addr().unix(), Some(&folder.addr()));
        UnixStream::connect(folder.path()).unwrap();
        drop(listener);
        assert!(!folder.path().exists(), "the file goes with the listener");
    }
}

#[test]
fn a_file_that_was_left_behind_is_replaced_unless_that_is_not_wanted() {
    let folder = Folder::new("stale");
    desert(&folder);
    let careful = folder.listen_with(&UnixListenOptions::default().remove_stale(false)).unwrap_err();
    assert!(matches!(&careful, UnixListenError::Stale { addr } if *addr == folder.addr()), "{careful}");
    assert!(folder.path().exists());
    let _listener = folder.listen().unwrap();
    UnixStream::connect(folder.path()).unwrap();
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let folder = Folder::new("regular");
    fs::write(folder.path(), "precious").unwrap();
    assert!(matches!(folder.listen().unwrap_err(), UnixListenError::NotASocket { .. }));
    assert_eq!(fs::read(folder.path()).unwrap(), b"precious");
    // Neither is a link followed, wherever it leads.
    fs::rename(folder.path(), folder.0.join("t")).unwrap();
    for target in ["t", "nowhere"] {
        symlink(target, folder.path()).unwrap();
        assert!(matches!(folder.listen().unwrap_err(), UnixListenError::NotASocket { .. }));
        fs::remove_file(folder.path()).unwrap();
    }
    assert_eq!(fs::read(folder.0.join("t")).unwrap(), b"precious");
    fs::create_dir(folder.path()).unwrap();
    assert!(matches!(folder.listen().unwrap_err(), UnixListenError::NotASocket { .. }));
}

#[test]
fn a_socket_that_somebody_uses_is_left_alone() {
    let folder = Folder::new("live");
    let first = folder.listen_with(&UnixListenOptions::default().backlog(0)).unwrap();
    assert!(matches!(folder.listen().unwrap_err(), UnixListenError::InUse { .. }));
    // The question has filled the queue, and a full queue is in use, too.
    let waits = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    waits.set_nonblocking(true).unwrap();
    let _ = waits.connect(&Addr::from(folder.addr()).to_sock_addr());
    assert!(matches!(folder.listen().unwrap_err(), UnixListenError::InUse { .. }));
    assert!(folder.path().exists());
    drop(first);
    let _datagrams = UnixDatagram::bind(folder.path()).unwrap();
    assert!(matches!(folder.listen().unwrap_err(), UnixListenError::InUse { .. }));
    assert!(folder.path().exists());
}

#[test]
fn a_file_that_has_taken_the_place_of_ours_stays() {
    let folder = Folder::new("replaced");
    let ours = folder.listen().unwrap();
    fs::remove_file(folder.path()).unwrap();
    let theirs = UnixListener::bind(folder.path()).unwrap();
    drop(ours);
    UnixStream::connect(folder.path()).unwrap();
    drop(theirs);
    fs::remove_file(folder.path()).unwrap();
    let ours = folder.listen().unwrap();
    fs::remove_file(folder.path()).unwrap();
    fs::write(folder.path(), "precious").unwrap();
    drop(ours);
    assert_eq!(fs::read(folder.path()).unwrap(), b"precious");
}

#[test]
fn of_many_servers_that_find_a_file_left_behind_one_gets_it() {
    const SERVERS: usize = 4;
    let folder = Folder::new("race");
    for _ in 0..25 {
        desert(&folder);
        let (begin, end) = (Barrier::new(SERVERS), Barrier::new(SERVERS));
        let winners = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..SERVERS {
                scope.spawn(|| {
                    begin.wait();
                    let listener = folder.listen();
                    match &listener {
                        Ok(_) => drop(winners.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => assert!(matches!(error, UnixListenError::InUse { .. }), "{error}"),
                    }
                    end.wait();
                });
            }
        });
        assert_eq!(winners.into_inner(), 1);
        assert!(!folder.path().exists());
    }
}

#[test]
fn a_file_has_the_mode_that_was_asked_for_and_never_more() {
    let folder = Folder::new("mode");
    for mode in [0o600, 0o660, 0o666, 0o777, 0o000] {
        let listener = folder.listen_with(&UnixListenOptions::default().mode(mode)).unwrap();
        assert_eq!(folder.mode(), mode);
        drop(listener);
        // The kernel makes it so: there is no moment at which it has more.
        let socket = with_mode(Socket::new(Domain::UNIX, Type::STREAM, None).unwrap(), mode).unwrap();
        socket.bind(&Addr::from(folder.addr()).to_sock_addr()).unwrap();
        assert_eq!(folder.mode() & !mode, 0, "{:o} for {mode:o}", folder.mode());
        fs::remove_file(folder.path()).unwrap();
    }
}

#[test]
fn a_mode_is_one_of_a_file_and_in_its_range() {
    let folder = Folder::new("bad-mode");
    let error = folder.listen_with(&UnixListenOptions::default().mode(0o1777)).unwrap_err();
    assert!(matches!(error, UnixListenError::BadMode { mode: 0o1777, max: 0o777, .. }));
    assert!(error.to_string().contains("0o777"), "{error}");
    assert!(!folder.path().exists());
    let name = UnixAddr::abstract_name("ringline-no-file").unwrap();
    let error = bind_unix(name, &UnixListenOptions::default().mode(0o600)).unwrap_err();
    assert!(matches!(error, ListenError::Unix(UnixListenError::NoFile { .. })));
}

#[test]
fn a_directory_has_to_be_there_and_is_not_waited_for_long() {
    let folder = Folder::new("directory");
    let nowhere = UnixAddr::path(folder.0.join("none").join("s")).unwrap();
    let error = bind_unix(nowhere, &UnixListenOptions::default()).unwrap_err();
    assert!(matches!(error, ListenError::Unix(UnixListenError::NoDirectory { .. })), "{error}");
    let _held = DirLock::try_lock(&folder.0).unwrap().unwrap();
    let begin = Instant::now();
    assert!(matches!(folder.listen().unwrap_err(), UnixListenError::Locked { .. }));
    assert!((LOCK_PATIENCE..LOCK_PATIENCE * 5).contains(&begin.elapsed()));
}

#[test]
fn abstract_names_are_free_again_and_the_kernel_can_choose_one() {
    let options = UnixListenOptions::default();
    let chosen = bind_unix(UnixAddr::unnamed(), &options).unwrap();
    let name = chosen.local_addr().unix().unwrap().clone();
    assert!(name.as_abstract_name().is_some_and(|name| !name.is_empty()));
    let taken = bind_unix(name.clone(), &options).unwrap_err();
    assert!(matches!(taken, ListenError::Unix(UnixListenError::InUse { .. })));
    drop(chosen);
    assert_eq!(bind_unix(name.clone(), &options).unwrap().local_addr().unix(), Some(&name));
}

#[test]
fn accepted_sockets_do_not_inherit_a_send_buffer_so_it_is_kept_for_them() {
    let options = UnixListenOptions::default().socket(SocketOptions::new().send_buffer_bytes(50_000));
    let listener = bind_unix(UnixAddr::unnamed(), &options).unwrap();
    assert_eq!(listener.accepted().len(), 1);
    let refused = UnixListenOptions::default().socket(SocketOptions::new().nodelay(true));
    assert!(matches!(bind_unix(UnixAddr::unnamed(), &refused), Err(ListenError::Option { .. })));
    let refused = UnixListenOptions::default().socket(SocketOptions::new().raw(1, 9999, &[0; 4]));
    assert!(matches!(bind_unix(UnixAddr::unnamed(), &refused), Err(ListenError::OptionRefused { .. })));
}
