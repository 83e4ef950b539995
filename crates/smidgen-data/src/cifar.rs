//! CIFAR-10 and CIFAR-100 in their binary form: records of label bytes and 3 x 32 x 32 picture bytes.

use std::path::{Path, PathBuf};

use crate::file;
use crate::{DataError, Dataset, ImageShape, Split};

const SHAPE: ImageShape = ImageShape {
    channels: 3,
    height: 32,
    width: 32,
};

/// A split of CIFAR-10 or CIFAR-100, held in memory.
///
/// Files may hold any number of whole records, so subsets of the originals are welcome.
pub struct Cifar {
    records: Vec<u8>,
    label_bytes: usize,
    classes: usize,
}

impl Cifar {
    /// Opens CIFAR-10: all `data_batch_*.bin` that are there, in order of name, or `test_batch.bin`.
    ///
    /// They lie in `folder` or in `cifar-10-batches-bin` inside it.
    pub fn open_10(folder: &Path, split: Split) -> Result<Self, DataError> {
        let wanted = "a CIFAR-10 folder in binary form holds data_batch_1.bin (and so on) and test_batch.bin";
        let candidates = [folder.to_path_buf(), folder.join("cifar-10-batches-bin")];
        let files = match split {
            Split::Train => {
                let mut files = Vec::new();
                for candidate in candidates.iter().filter(|candidate| candidate.is_dir()) {
                    files = file::list(candidate, wanted)?;
                    files.retain(|path| is_training_batch(path));
                    if !files.is_empty() {
                        break;
                    }
                }
                if files.is_empty() {
                    files.push(folder.join("data_batch_1.bin"));
                }
                files
            }
            Split::Test => vec![first_present(&candidates, "test_batch.bin")],
        };
        Self::read(&files, wanted, 1, 10)
    }

    /// Opens CIFAR-100 with its hundred fine labels: `train.bin` or `test.bin`.
    ///
    /// They lie in `folder` or in `cifar-100-binary` inside it.
    pub fn open_100(folder: &Path, split: Split) -> Result<Self, DataError> {
        let wanted = "a CIFAR-100 folder in binary form holds train.bin and test.bin";
        let candidates = [folder.to_path_buf(), folder.join("cifar-100-binary")];
        let file = first_present(&candidates, &format!("{split}.bin"));
        Self::read(&[file], wanted, 2, 100)
    }

    fn read(
        files: &[PathBuf],
        wanted: &str,
        label_bytes: usize,
        classes: usize,
    ) -> Result<Self, DataError> {
        let record_bytes = label_bytes + SHAPE.bytes();
        let mut records = Vec::new();
        for path in files {
            let bytes = file::read(path, wanted)?;
            if bytes.is_empty() {
                return Err(DataError::Empty { path: path.clone() });
            }
            if bytes.len() % record_bytes != 0 {
                return Err(DataError::Truncated {
                    file: path.clone(),
                    expected: bytes.len().next_multiple_of(record_bytes) as u64,
                    actual: bytes.len() as u64,
                });
            }
            for (record, content) in bytes.chunks_exact(record_bytes).enumerate() {
                let label = content[label_bytes - 1];
                if usize::from(label) >= classes {
                    return Err(DataError::LabelOutOfRange {
                        file: path.clone(),
                        record,
                        label: label.into(),
                        classes,
                    });
                }
            }
            records.extend_from_slice(&bytes);
        }
        Ok(Self {
            records,
            label_bytes,
            classes,
        })
    }

    fn record(&self, index: usize) -> &[u8] {
        let record_bytes = self.label_bytes + SHAPE.bytes();
        &self.records[index * record_bytes..][..record_bytes]
    }
}

impl Dataset for Cifar {
    fn len(&self) -> usize {
        self.records.len() / (self.label_bytes + SHAPE.bytes())
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn image_shape(&self) -> ImageShape {
        SHAPE
    }

    fn label(&self, index: usize) -> u32 {
        // The last label byte is the one that counts: CIFAR-100 puts its coarse label first.
        self.record(index)[self.label_bytes - 1].into()
    }

    fn decode(&self, index: usize, image: &mut [u8]) -> Result<(), DataError> {
        image.copy_from_slice(&self.record(index)[self.label_bytes..]);
        Ok(())
    }
}

fn is_training_batch(path: &Path) -> bool {
    path.file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.starts_with("data_batch_") && name.ends_with(".bin"))
}

/// `name` in the first folder that holds it, or in the first folder, for the error message.
fn first_present(folders: &[PathBuf; 2], name: &str) -> PathBuf {
    folders
        .iter()
        .map(|folder| folder.join(name))
        .find(|path| path.exists())
        .unwrap_or_else(|| folders[0].join(name))
}
