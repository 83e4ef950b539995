//! Files that are written wholly or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Writes a file wholly or not at all: beside the old one first, in whose place it is put when all of it is on the disk.
///
/// # Errors
/// If it cannot be written. What was there before is then untouched, and the temporary file is removed.
pub fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not the name of a file"))?;
    let mut temporary = name.to_os_string();
    // Always the same, so that what a killed process left behind is overwritten.
    temporary.push(".part");
    let temporary = path.with_file_name(temporary);
    let written = write_through(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to tell; a file that was never made cannot be removed either.
        let _ = fs::remove_file(&temporary);
    } else {
        sync_folder(path);
    }
    written
}

/// Only then does the new name outlast a power cut. Not every system can do it, and the file is whole either way.
fn sync_folder(path: &Path) {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    if let Ok(folder) = File::open(folder.unwrap_or(Path::new("."))) {
        let _ = folder.sync_all();
    }
}

fn write_through(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
