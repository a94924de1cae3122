//! One owner for a directory (I15), and the checks of the directory itself.

use regionmeta::mutant::{Mutant, planted};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::StorageError;

/// RocksDB ignores files that it does not know, so the lock can stand beside its own.
const LOCK_FILE: &str = "REGIONMETA_LOCK";

/// Holds a directory for as long as it lives, against every other owner in this process and in others.
///
/// The lock belongs to the open file, not to the process: a second owner inside this process is refused too, and closing
/// the refused one's file gives nothing away. The kernel releases it when the process dies, whatever way.
#[derive(Debug)]
pub(super) struct Owner {
    lock: File,
}

impl Drop for Owner {
    /// Closing the file is not enough: a process that is being started holds a copy of it until its program is loaded, and
    /// the lock would last until then.
    fn drop(&mut self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "cannot unlock a directory; it is free when the file is closed everywhere");
        }
    }
}

impl Owner {
    /// Takes an existing directory.
    pub(super) fn of(path: &Path) -> Result<Self, StorageError> {
        let lock_path = path.join(LOCK_FILE);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(&lock_path)
            .map_err(|source| StorageError::Io { path: lock_path.clone(), action: "open the lock file", source })?;
        let locked = if planted(Mutant::M24) { Ok(()) } else { lock.try_lock() };
        match locked {
            Ok(()) => Ok(Self { lock }),
            Err(TryLockError::WouldBlock) => Err(StorageError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => {
                Err(StorageError::Io { path: lock_path, action: "lock the lock file", source })
            }
        }
    }
}

/// Whether a store of ours was ever opened in a directory.
pub(super) fn was_owned(path: &Path) -> bool {
    path.join(LOCK_FILE).exists()
}

/// Refuses whatever is not a directory that only this user can write.
pub(super) fn check_directory(path: &Path) -> Result<(), StorageError> {
    // The kernel follows a link that a slash, or a dot behind one, comes after; components have neither.
    let path: &Path = &path.components().collect::<PathBuf>();
    let found = fs::symlink_metadata(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => StorageError::NoDirectory { path: path.to_owned() },
        _ => StorageError::Io { path: path.to_owned(), action: "look at the directory", source },
    })?;
    let path = || path.to_owned();
    if found.is_symlink() {
        return Err(StorageError::SymbolicLink { path: path() });
    }
    if !found.is_dir() {
        return Err(StorageError::NotADirectory { path: path() });
    }
    let user = rustix::process::geteuid().as_raw();
    if found.uid() != user {
        return Err(StorageError::ForeignOwner { path: path(), owner: found.uid(), user });
    }
    let mode = found.mode() & 0o7777;
    if mode & 0o002 != 0 {
        return Err(StorageError::WorldWritable { path: path(), mode });
    }
    // A directory that this process may not read or write would otherwise fail half-way through opening.
    rustix::fs::access(path(), rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
        .map_err(|errno| StorageError::Io {
            path: path(),
            action: "read and write the directory",
            source: errno.into(),
        })
}

/// Creates a directory for this user only, and makes its entry in the parent durable. An existing one is left as it is.
pub(super) fn create_directory(path: &Path) -> Result<(), StorageError> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => sync_parent(path),
        // It may have been created by a start that was killed before its entry was synced.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => sync_parent(path),
        Err(source) => Err(StorageError::Io { path: path.to_owned(), action: "create the directory", source }),
    }
}

fn sync_parent(path: &Path) -> Result<(), StorageError> {
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    File::open(&parent).and_then(|parent| parent.sync_all()).map_err(|source| StorageError::Io {
        path: parent,
        action: "sync the parent directory",
        source,
    })
}
