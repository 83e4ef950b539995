//! A folder of picture files, one folder a class.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use image::imageops::FilterType;

use crate::file;
use crate::{DataError, Dataset, ImageShape, Split};

/// In a folder without splits, one picture of so many is kept for the test.
const HELD_OUT: usize = 5;

const WANTED: &str =
    "an image folder holds train/CLASS/*.png or .jpg and test/CLASS/*, or just CLASS/*";

/// PNG and JPEG files sorted into folders by class, decoded when they are needed.
///
/// Every picture becomes RGB and is resized, without regard to its proportions, to one square size.
pub struct ImageFolder {
    pictures: Vec<(PathBuf, u32)>,
    class_names: Vec<String>,
    size: usize,
}

impl ImageFolder {
    /// Opens a folder; pictures are resized to `size` x `size`.
    ///
    /// - If it holds a folder `train` or `test`, the pictures of a split are `SPLIT/CLASS/*`. The classes are
    ///   the names that occur in either, so that both splits number them alike.
    /// - Otherwise the pictures are `CLASS/*`, and of each class every fifth (in order of name) is kept for the
    ///   test split, so that no picture is in both.
    ///
    /// Classes are numbered in order of name. Files that do not end in `.png`, `.jpg` or `.jpeg` and names that
    /// begin with a dot are passed over.
    pub fn open(folder: &Path, split: Split, size: usize) -> Result<Self, DataError> {
        if size == 0 {
            return Err(DataError::EmptyImage);
        }
        let splits = [Split::Train, Split::Test].map(|split| folder.join(split.to_string()));
        let has_splits = splits.iter().any(|path| path.is_dir());
        let roots: Vec<&Path> = if has_splits {
            splits
                .iter()
                .filter(|path| path.is_dir())
                .map(PathBuf::as_path)
                .collect()
        } else {
            vec![folder]
        };
        let mut classes = BTreeSet::<OsString>::new();
        for root in roots {
            let folders = file::list(root, WANTED)?;
            classes.extend(
                folders
                    .iter()
                    .filter(|path| path.is_dir())
                    .filter_map(|path| path.file_name().map(OsString::from)),
            );
        }

        let root = if has_splits {
            folder.join(split.to_string())
        } else {
            folder.to_path_buf()
        };
        if !root.is_dir() {
            return Err(DataError::Missing {
                path: root,
                wanted: WANTED.to_owned(),
            });
        }
        let mut pictures = Vec::new();
        for (label, class) in classes.iter().enumerate() {
            let class_folder = root.join(class);
            if !class_folder.is_dir() {
                continue;
            }
            let mut files = file::list(&class_folder, WANTED)?;
            files.retain(|path| is_picture(path));
            let chosen = files.into_iter().enumerate().filter(|(position, _)| {
                let held_out = position % HELD_OUT == HELD_OUT - 1;
                has_splits || held_out == (split == Split::Test)
            });
            pictures.extend(chosen.map(|(_, path)| (path, label as u32)));
        }
        if pictures.is_empty() {
            return Err(DataError::Empty { path: root });
        }
        Ok(Self {
            pictures,
            class_names: classes
                .iter()
                .map(|name| name.to_string_lossy().into_owned())
                .collect(),
            size,
        })
    }

    /// The names of the classes, in order of their labels.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }
}

impl Dataset for ImageFolder {
    fn len(&self) -> usize {
        self.pictures.len()
    }

    fn classes(&self) -> usize {
        self.class_names.len()
    }

    fn image_shape(&self) -> ImageShape {
        ImageShape {
            channels: 3,
            height: self.size,
            width: self.size,
        }
    }

    fn label(&self, index: usize) -> u32 {
        self.pictures[index].1
    }

    fn decode(&self, index: usize, image: &mut [u8]) -> Result<(), DataError> {
        let path = &self.pictures[index].0;
        // By content, not by name: pictures often carry the wrong ending.
        let reader = image::ImageReader::new(std::io::BufReader::new(file::open(path, WANTED)?))
            .with_guessed_format()
            .map_err(|source| file::read_error(path, WANTED, source))?;
        let decoded = reader.decode().map_err(|error| DataError::Undecodable {
            file: path.clone(),
            reason: error.to_string(),
        })?;
        let size = self.size as u32;
        let pixels = decoded
            .resize_exact(size, size, FilterType::Triangle)
            .into_rgb8();
        let plane = self.size * self.size;
        for (pixel, colour) in pixels.pixels().enumerate() {
            for (channel, &value) in colour.0.iter().enumerate() {
                image[channel * plane + pixel] = value;
            }
        }
        Ok(())
    }
}

fn is_picture(path: &Path) -> bool {
    path.is_file()
        && path
            .extension()
            .and_then(|extension| extension.to_str())
            .is_some_and(|extension| {
                ["png", "jpg", "jpeg"]
                    .iter()
                    .any(|known| extension.eq_ignore_ascii_case(known))
            })
}
