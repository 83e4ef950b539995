//! Data sets as they are named on a command line.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use crate::{Cifar, DataError, Dataset, Idx, ImageFolder, Normalization, Shapes, Split};

/// The side in pixels to which `images:DIR` resizes.
pub const DEFAULT_IMAGE_SIZE: usize = 32;

/// A data set and where it is; parsed from `cifar10:DIR`, `cifar100:DIR`, `idx:DIR`, `images:DIR` or `shapes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataSource {
    /// CIFAR-10 in binary form, in this folder.
    Cifar10(PathBuf),
    /// CIFAR-100 in binary form, in this folder.
    Cifar100(PathBuf),
    /// MNIST or a relative as IDX files, in this folder.
    Idx(PathBuf),
    /// Picture files sorted into folders by class: see [`ImageFolder::open`].
    Images {
        /// The folder.
        folder: PathBuf,
        /// The side to which pictures are resized; [`DEFAULT_IMAGE_SIZE`] when parsed.
        size: usize,
    },
    /// The built-in set of generated pictures.
    Shapes {
        /// What the pictures are drawn from; [`Shapes::DEFAULT_SEED`] when parsed.
        seed: u64,
    },
}

impl DataSource {
    /// Opens one split and checks it: sizes, headers and every label.
    pub fn open(&self, split: Split) -> Result<Arc<dyn Dataset>, DataError> {
        Ok(match self {
            Self::Cifar10(folder) => Arc::new(Cifar::open_10(folder, split)?),
            Self::Cifar100(folder) => Arc::new(Cifar::open_100(folder, split)?),
            Self::Idx(folder) => Arc::new(Idx::open(folder, split)?),
            Self::Images { folder, size } => Arc::new(ImageFolder::open(folder, split, *size)?),
            Self::Shapes { seed } => Arc::new(Shapes::new(*seed, split)),
        })
    }

    /// The usual normalisation of this set's pictures.
    pub fn normalization(&self) -> Normalization {
        match self {
            Self::Idx(_) => Normalization::grey(),
            Self::Cifar10(_) | Self::Cifar100(_) | Self::Images { .. } | Self::Shapes { .. } => {
                Normalization::colour()
            }
        }
    }
}

impl FromStr for DataSource {
    type Err = DataError;

    fn from_str(spelling: &str) -> Result<Self, DataError> {
        let unknown = || DataError::UnknownSource {
            spelling: spelling.to_owned(),
        };
        if spelling == "shapes" {
            return Ok(Self::Shapes {
                seed: Shapes::DEFAULT_SEED,
            });
        }
        let (kind, folder) = spelling.split_once(':').ok_or_else(unknown)?;
        if folder.is_empty() {
            return Err(unknown());
        }
        let folder = PathBuf::from(folder);
        match kind {
            "cifar10" => Ok(Self::Cifar10(folder)),
            "cifar100" => Ok(Self::Cifar100(folder)),
            "idx" => Ok(Self::Idx(folder)),
            "images" => Ok(Self::Images {
                folder,
                size: DEFAULT_IMAGE_SIZE,
            }),
            _ => Err(unknown()),
        }
    }
}

/// The spelling that is parsed; a size or seed other than the usual one does not show.
impl fmt::Display for DataSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, folder) = match self {
            Self::Cifar10(folder) => ("cifar10", folder),
            Self::Cifar100(folder) => ("cifar100", folder),
            Self::Idx(folder) => ("idx", folder),
            Self::Images { folder, .. } => ("images", folder),
            Self::Shapes { .. } => return formatter.write_str("shapes"),
        };
        write!(formatter, "{kind}:{}", folder.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_are_parsed_and_printed() {
        for spelling in [
            "cifar10:a/b",
            "cifar100:/data",
            "idx:C:\\mnist",
            "images:.",
            "shapes",
        ] {
            let source: DataSource = spelling.parse().unwrap();
            assert_eq!(source.to_string(), spelling);
        }
    }

    #[test]
    fn a_wrong_spelling_is_told_the_right_ones() {
        for spelling in [
            "",
            "cifar10",
            "cifar10:",
            "mnist:dir",
            "shapes:dir",
            "Shapes",
        ] {
            let error = spelling.parse::<DataSource>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{spelling}`")), "{error}");
            for form in [
                "cifar10:DIR",
                "cifar100:DIR",
                "idx:DIR",
                "images:DIR",
                "shapes",
            ] {
                assert!(error.contains(form), "{error}");
            }
        }
    }
}
