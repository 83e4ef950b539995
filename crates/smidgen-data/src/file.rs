//! Reading files, with errors that name them.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::DataError;

/// The error for `path`, of which `wanted` says what it should be.
pub(crate) fn read_error(path: &Path, wanted: &str, source: std::io::Error) -> DataError {
    let path = path.to_path_buf();
    match source.kind() {
        ErrorKind::NotFound => DataError::Missing {
            path,
            wanted: wanted.to_owned(),
        },
        _ => DataError::Unreadable { path, source },
    }
}

/// Opens a file.
pub(crate) fn open(path: &Path, wanted: &str) -> Result<File, DataError> {
    File::open(path).map_err(|source| read_error(path, wanted, source))
}

/// A whole file.
pub(crate) fn read(path: &Path, wanted: &str) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    open(path, wanted)?
        .read_to_end(&mut bytes)
        .map_err(|source| read_error(path, wanted, source))?;
    Ok(bytes)
}

/// What a folder holds, sorted by name, without hidden entries.
pub(crate) fn list(folder: &Path, wanted: &str) -> Result<Vec<PathBuf>, DataError> {
    let failed = |source| read_error(folder, wanted, source);
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            entries.push(entry.path());
        }
    }
    entries.sort();
    Ok(entries)
}
