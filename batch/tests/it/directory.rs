//! The directory of a store: what is refused, that a refusal changes nothing (T12), and that there is one owner (T13, I15).

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use regionmeta_batch::bootstrap::BootstrapError;
use regionmeta_batch::pd::EmbeddedPd;
use regionmeta_batch::storage::{Durability, RocksStorage, Storage, StorageError};
use regionmeta_batch::{OpenError, Store};
use rocksdb::DB;
use tempfile::TempDir;

use crate::child::{self, Running};
use crate::common::{CLUSTER, builder};
use crate::storage::host_options;

/// Everything below a directory, with what tells one entry from another.
fn listing(root: &Path) -> Vec<(PathBuf, u32, u64)> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let (path, metadata) = entry.map(|entry| (entry.path(), entry.metadata().unwrap())).unwrap();
            found.push((path.clone(), metadata.mode(), metadata.len()));
            if metadata.is_dir() {
                open.push(path);
            }
        }
    }
    found.sort();
    found
}

fn bootstrap(path: &Path) -> Result<Store<RocksStorage>, OpenError> {
    builder().bootstrap(path, &EmbeddedPd::new(CLUSTER))
}

/// Both ways in must be refused alike, and leave everything under `root` as it was.
#[track_caller]
fn assert_refused(root: &Path, path: &Path, expected: impl Fn(&StorageError) -> bool) {
    let before = listing(root);
    for result in [builder().open(path), bootstrap(path)] {
        match result {
            Err(OpenError::Storage(error)) => {
                assert!(expected(&error), "{error}");
                assert!(error.to_string().contains(path.file_name().unwrap().to_str().unwrap()), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(listing(root), before, "a refusal changed the directory");
}

#[test]
fn open_creates_no_directory() {
    let root = TempDir::new().unwrap();
    let error = builder().open(root.path().join("store")).unwrap_err();
    assert!(matches!(error, OpenError::Storage(StorageError::NoDirectory { .. })), "{error}");
    assert_eq!(listing(root.path()), []);
}

#[test]
fn bootstrap_creates_a_directory_for_this_user_only_but_no_parents() {
    let root = TempDir::new().unwrap();
    let error = bootstrap(&root.path().join("parent/store")).unwrap_err();
    assert!(matches!(&error, OpenError::Storage(StorageError::Io { action: "create the directory", .. })), "{error}");
    assert_eq!(listing(root.path()), []);

    let path = root.path().join("store");
    bootstrap(&path).unwrap().close().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
    builder().open(&path).unwrap();
}

#[test]
fn a_file_is_no_directory() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("store");
    fs::write(&path, "precious").unwrap();
    assert_refused(root.path(), &path, |error| matches!(error, StorageError::NotADirectory { .. }));
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_symbolic_link_is_refused_however_it_is_spelled() {
    let root = TempDir::new().unwrap();
    let (store, link) = (root.path().join("store"), root.path().join("link"));
    bootstrap(&store).unwrap().close().unwrap();
    symlink(&store, &link).unwrap();
    // The kernel follows a link that a slash, or a dot behind one, comes after.
    for spelled in [link.clone(), link.join(""), link.join(".")] {
        assert_refused(root.path(), &spelled, |error| matches!(error, StorageError::SymbolicLink { .. }));
    }
    let dangling = root.path().join("dangling");
    symlink(root.path().join("nowhere"), &dangling).unwrap();
    assert_refused(root.path(), &dangling, |error| matches!(error, StorageError::SymbolicLink { .. }));
}

#[test]
fn a_directory_that_everybody_may_write_is_refused() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("store");
    bootstrap(&path).unwrap().close().unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    assert_refused(root.path(), &path, |error| matches!(error, StorageError::WorldWritable { mode: 0o777, .. }));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    builder().open(&path).unwrap();
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn a_directory_of_another_user_is_refused() {
    if !is_root() {
        println!("SKIPPED: only root can give a directory to another user");
        return;
    }
    let root = TempDir::new().unwrap();
    let path = root.path().join("store");
    fs::create_dir(&path).unwrap();
    std::os::unix::fs::chown(&path, Some(12_345), None).unwrap();
    assert_refused(root.path(), &path, |error| matches!(error, StorageError::ForeignOwner { owner: 12_345, .. }));
}

/// A user without rights; by custom nobody.
const NOBODY: u32 = 65_534;

/// What opening says, in a process that is not root: root may read and write everything. A directory that cannot be written, one
/// that cannot be read, one that cannot be entered, and one with no rights at all.
#[test]
fn a_directory_without_rights_is_refused() {
    for mode in [0o500, 0o300, 0o600, 0o000] {
        let root = TempDir::new().unwrap();
        let path = root.path().join("store");
        fs::create_dir(&path).unwrap();
        let mut command = child::command("try", &path);
        if is_root() {
            for owned in [root.path(), &path] {
                std::os::unix::fs::chown(owned, Some(NOBODY), Some(NOBODY)).unwrap();
            }
            command.uid(NOBODY).gid(NOBODY);
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let before = is_root().then(|| listing(root.path()));
        let heard = match Running::from_command(command) {
            Ok(mut child) => child.heard().unwrap(),
            Err(error) => {
                println!("SKIPPED: user {NOBODY} cannot run this binary: {error}");
                return;
            }
        };
        assert!(heard.contains("cannot read and write the directory: Permission denied"), "{mode:o}: {heard}");
        // Without root's rights the test cannot look into the directory before it gives the rights back.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(listing(&path), []);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        before.inspect(|before| assert_eq!(&listing(root.path()), before));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    }
}

/// Root may write where the bits say that nobody may: there is nothing to refuse, and the test says so.
#[test]
fn root_is_not_kept_out_by_the_bits_of_a_directory() {
    if !is_root() {
        println!("SKIPPED: this process is not root");
        return;
    }
    let root = TempDir::new().unwrap();
    let path = root.path().join("store");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o500)).unwrap();
    println!("SKIPPED as root: a refusal of a read-only directory; what root opens has to work instead");
    bootstrap(&path).unwrap().close().unwrap();
    builder().open(&path).unwrap();
}

/// A link in the place of the lock would have its target opened, or made, for writing.
#[test]
fn a_lock_that_is_a_symbolic_link_is_refused() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("store");
    bootstrap(&path).unwrap().close().unwrap();
    let (lock, elsewhere) = (path.join("REGIONMETA_LOCK"), root.path().join("elsewhere"));
    fs::remove_file(&lock).unwrap();
    symlink(&elsewhere, &lock).unwrap();
    assert_refused(root.path(), &path, |error| matches!(error, StorageError::Io { action: "open the lock file", .. }));
    fs::write(&elsewhere, "precious").unwrap();
    assert_refused(root.path(), &path, |error| matches!(error, StorageError::Io { action: "open the lock file", .. }));
    assert_eq!(fs::read(&elsewhere).unwrap(), b"precious");
}

/// A lock is held by who has the file open, not by the file: what a killed process or an old version left locks nobody out.
#[test]
fn a_stale_lock_file_locks_nobody_out() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("store");
    bootstrap(&path).unwrap().close().unwrap();
    for lock in ["REGIONMETA_LOCK", "LOCK"] {
        fs::write(path.join(lock), "12345\n").unwrap();
    }
    let store = builder().open(&path).unwrap();
    assert!(is_in_use(builder().open(&path)));
    drop(store);
}

pub(crate) fn child_tries(path: &Path) {
    match bootstrap(path) {
        Ok(_) => child::say("it opened"),
        Err(error) => child::say(&error.to_string()),
    }
}

#[test]
fn an_empty_directory_holds_no_store_until_bootstrap_makes_one() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("store");
    fs::create_dir(&path).unwrap();
    let error = builder().open(&path).unwrap_err();
    assert!(matches!(error, OpenError::Storage(StorageError::NoStore { .. })), "{error}");
    assert_eq!(listing(&path), []);
    bootstrap(&path).unwrap();
}

#[test]
fn a_directory_that_was_opened_but_never_bootstrapped_says_so() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("store");
    drop(RocksStorage::create(&path, Durability::Synced).unwrap());
    let error = builder().open(&path).unwrap_err();
    assert!(matches!(error, OpenError::Bootstrap(BootstrapError::NotBootstrapped)), "{error}");
}

/// Adding a column family to another program's database would keep that program from opening it ever again.
#[test]
fn another_programs_database_is_left_alone() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("store");
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    let put = || DB::open(&options, &path).unwrap().put(b"theirs", b"data").unwrap();
    put();
    let before = listing(&path);
    for result in [builder().open(&path), bootstrap(&path)] {
        let error = result.unwrap_err();
        assert!(matches!(error, OpenError::Storage(StorageError::ForeignDatabase { .. })), "{error}");
        let named = |(path, ..): &(PathBuf, u32, u64)| path.clone();
        assert_eq!(listing(&path).iter().map(named).collect::<Vec<_>>(), before.iter().map(named).collect::<Vec<_>>());
    }
    put();
}

/// A start that was killed before the column family came leaves an empty database: that one is ours to complete.
#[test]
fn an_empty_database_is_completed_by_bootstrap() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("store");
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    drop(DB::open(&options, &path).unwrap());
    let error = builder().open(&path).unwrap_err();
    assert!(matches!(error, OpenError::Storage(StorageError::ForeignDatabase { .. })), "{error}");
    drop(bootstrap(&path).unwrap());
    builder().open(&path).unwrap();
}

fn is_in_use(result: Result<Store<RocksStorage>, OpenError>) -> bool {
    matches!(result, Err(OpenError::Storage(StorageError::InUse { .. })))
}

/// M24, rocksdb#1780: a refused second open in the same process gave the first one's lock away, and the third got in.
#[test]
fn a_second_handle_is_refused_and_so_is_a_third() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("store");
    let store = bootstrap(&path).unwrap();
    for _ in 0..3 {
        assert!(is_in_use(builder().open(&path)));
        assert!(is_in_use(bootstrap(&path)));
        assert!(child_is_refused(&path));
    }
    let mut batch = store.storage().batch();
    store.storage().put(&mut batch, regionmeta_batch::storage::Family::Default, b"zkey", b"value").unwrap();
    store.storage().write(batch, Durability::Synced).unwrap();
    drop(store);
    builder().open(&path).unwrap();
}

fn child_is_refused(path: &Path) -> bool {
    let heard = Running::spawn("try", path).heard().unwrap();
    assert!(heard.contains("is in use by another open store") || heard == "it opened", "{heard}");
    heard != "it opened"
}

pub(crate) fn child_holds(path: &Path) {
    let _store = bootstrap(path).unwrap();
    child::say("open");
    loop {
        std::thread::park();
    }
}

#[test]
fn another_process_owns_the_directory_until_it_is_killed() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("store");
    let mut owner = Running::spawn("hold", &path);
    assert_eq!(owner.heard().as_deref(), Some("open"));
    for _ in 0..2 {
        assert!(is_in_use(builder().open(&path)));
        assert!(is_in_use(bootstrap(&path)));
    }
    owner.kill();
    builder().open(&path).unwrap();
}

#[test]
fn a_host_database_is_attached_once_at_a_time() {
    let dir = TempDir::new().unwrap();
    let db = Arc::new(DB::open_cf(&host_options(), dir.path(), ["default", "raft"]).unwrap());
    let first = RocksStorage::attach(db.clone()).unwrap();
    for _ in 0..2 {
        assert!(matches!(RocksStorage::attach(db.clone()), Err(StorageError::InUse { .. })));
        assert!(matches!(RocksStorage::open(dir.path(), Durability::Synced), Err(StorageError::InUse { .. })));
    }
    drop(first);
    RocksStorage::attach(db).unwrap();
}

/// A lock belongs to the open file, and a process that is just being started holds a copy of every open file until its
/// program is loaded: a store that was closed in that moment could not be opened again.
#[test]
fn a_closed_store_is_free_though_other_processes_are_being_started() {
    let dir = TempDir::new().unwrap();
    let db = Arc::new(DB::open_cf(&host_options(), dir.path(), ["default", "raft"]).unwrap());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Relaxed: the flag only ends the loop.
            while !done.load(Ordering::Relaxed) {
                std::process::Command::new("/bin/true").status().unwrap();
            }
        });
        let attached = (0..1_000).try_for_each(|_| RocksStorage::attach(db.clone()).map(drop));
        done.store(true, Ordering::Relaxed);
        attached.unwrap();
    });
}
