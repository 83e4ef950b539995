//! What is finished, in a folder, so that a run that was interrupted goes on.

use crate::Run;
use crate::recipe::Size;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub(crate) struct Kept {
    folder: PathBuf,
}

impl Kept {
    /// Opens the folder of a run of this size, or makes it.
    pub(crate) fn open(folder: &Path, size: &Size) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let file = folder.join("settings.json");
        let settings = serde_json::to_string_pretty(size)?;
        if !file.exists() {
            fs::write(&file, &settings)?;
        } else if fs::read_to_string(&file)? != settings {
            return Err(io::Error::other(format!(
                "{} holds a run with other settings; name another folder",
                folder.display()
            )));
        }
        let folder = folder.to_owned();
        Ok(Self { folder })
    }

    /// The file of the pretrained network.
    pub(crate) fn pretrained(&self) -> PathBuf {
        self.folder.join("pretrained.safetensors")
    }

    fn file(&self) -> PathBuf {
        self.folder.join("runs.jsonl")
    }

    pub(crate) fn runs(&self) -> io::Result<Vec<Run>> {
        let file = self.file();
        if !file.exists() {
            return Ok(Vec::new());
        }
        let text = fs::read_to_string(file)?;
        (text.lines())
            .map(|line| Ok(serde_json::from_str(line)?))
            .collect()
    }

    pub(crate) fn add(&self, run: &Run) -> io::Result<()> {
        let mut file = (OpenOptions::new().create(true).append(true)).open(self.file())?;
        writeln!(file, "{}", serde_json::to_string(run)?)
    }
}
