//! IDX files, the form of MNIST and its relatives, plain or compressed with gzip.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::file;
use crate::{DataError, Dataset, ImageShape, Split};

const CLASSES: usize = 10;
const IMAGES_MAGIC: u32 = 0x0803;
const LABELS_MAGIC: u32 = 0x0801;

/// A split of MNIST, Fashion-MNIST or another set of ten classes of grey pictures in their form, held in memory.
pub struct Idx {
    images: Vec<u8>,
    labels: Vec<u8>,
    shape: ImageShape,
}

impl Idx {
    /// Opens `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`, or those that begin with `t10k`.
    ///
    /// Each may also end in `.gz`; the plain file is preferred.
    pub fn open(folder: &Path, split: Split) -> Result<Self, DataError> {
        let prefix = match split {
            Split::Train => "train",
            Split::Test => "t10k",
        };
        let image_file = plain_or_compressed(folder, &format!("{prefix}-images-idx3-ubyte"));
        let label_file = plain_or_compressed(folder, &format!("{prefix}-labels-idx1-ubyte"));

        let mut reader = IdxReader::open(&image_file)?;
        reader.expect_magic(IMAGES_MAGIC, "images")?;
        let [count, height, width] = [reader.number()?, reader.number()?, reader.number()?];
        let bytes = [count, height, width]
            .iter()
            .try_fold(1usize, |product, &size| product.checked_mul(size as usize))
            .filter(|&bytes| bytes < isize::MAX as usize && (height > 0 && width > 0))
            .ok_or(DataError::BadHeader {
                file: image_file.clone(),
                count,
                height,
                width,
            })?;
        let images = reader.rest(bytes)?;

        let mut reader = IdxReader::open(&label_file)?;
        reader.expect_magic(LABELS_MAGIC, "labels")?;
        let label_count = reader.number()? as usize;
        let labels = reader.rest(label_count)?;

        if count == 0 {
            return Err(DataError::Empty { path: image_file });
        }
        if label_count != count as usize {
            return Err(DataError::CountMismatch {
                image_file,
                images: count as usize,
                label_file,
                labels: label_count,
            });
        }
        if let Some(record) = labels
            .iter()
            .position(|&label| usize::from(label) >= CLASSES)
        {
            return Err(DataError::LabelOutOfRange {
                file: label_file,
                record,
                label: labels[record].into(),
                classes: CLASSES,
            });
        }
        Ok(Self {
            images,
            labels,
            shape: ImageShape {
                channels: 1,
                height: height as usize,
                width: width as usize,
            },
        })
    }
}

impl Dataset for Idx {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn classes(&self) -> usize {
        CLASSES
    }

    fn image_shape(&self) -> ImageShape {
        self.shape
    }

    fn label(&self, index: usize) -> u32 {
        self.labels[index].into()
    }

    fn decode(&self, index: usize, image: &mut [u8]) -> Result<(), DataError> {
        let bytes = self.shape.bytes();
        image.copy_from_slice(&self.images[index * bytes..][..bytes]);
        Ok(())
    }
}

fn plain_or_compressed(folder: &Path, name: &str) -> PathBuf {
    let plain = folder.join(name);
    let compressed = folder.join(format!("{name}.gz"));
    if !plain.exists() && compressed.exists() {
        compressed
    } else {
        plain
    }
}

/// Reads big-endian numbers, then bytes, and knows how far it came.
struct IdxReader {
    reader: Box<dyn Read>,
    file: PathBuf,
    position: u64,
}

impl IdxReader {
    fn open(path: &Path) -> Result<Self, DataError> {
        let wanted = "an IDX folder holds train-images-idx3-ubyte, train-labels-idx1-ubyte, \
                      t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, plain or ending in .gz";
        let plain = file::open(path, wanted)?;
        let compressed = path.extension().is_some_and(|extension| extension == "gz");
        let reader: Box<dyn Read> = if compressed {
            Box::new(MultiGzDecoder::new(std::io::BufReader::new(plain)))
        } else {
            Box::new(std::io::BufReader::new(plain))
        };
        Ok(Self {
            reader,
            file: path.to_path_buf(),
            position: 0,
        })
    }

    fn expect_magic(&mut self, expected: u32, content: &'static str) -> Result<(), DataError> {
        let actual = self.number()?;
        if actual == expected {
            return Ok(());
        }
        Err(DataError::BadMagic {
            file: self.file.clone(),
            content,
            expected,
            actual,
        })
    }

    fn number(&mut self) -> Result<u32, DataError> {
        let bytes = self.exactly(4)?;
        Ok(bytes
            .iter()
            .fold(0, |number, &byte| number << 8 | u32::from(byte)))
    }

    /// The remaining `count` bytes, after which the file must end.
    fn rest(mut self, count: usize) -> Result<Vec<u8>, DataError> {
        let bytes = self.exactly(count)?;
        if self.at_most(1)?.is_empty() {
            return Ok(bytes);
        }
        Err(DataError::TrailingBytes {
            file: self.file,
            expected: self.position - 1,
        })
    }

    fn exactly(&mut self, count: usize) -> Result<Vec<u8>, DataError> {
        let expected = self.position + count as u64;
        let bytes = self.at_most(count)?;
        if bytes.len() == count {
            return Ok(bytes);
        }
        Err(DataError::Truncated {
            file: self.file.clone(),
            expected,
            actual: self.position,
        })
    }

    /// Grows with what the file really holds, so that a lying header cannot demand memory.
    fn at_most(&mut self, count: usize) -> Result<Vec<u8>, DataError> {
        let mut bytes = Vec::new();
        match (&mut self.reader)
            .take(count as u64)
            .read_to_end(&mut bytes)
        {
            Ok(_) => {}
            // A compressed stream cut short: what came before it counts.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
            Err(source) => {
                return Err(DataError::Unreadable {
                    path: self.file.clone(),
                    source,
                });
            }
        }
        self.position += bytes.len() as u64;
        Ok(bytes)
    }
}
