//! Everything that can be wrong with data.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// What is wrong with a data set or with what was asked of it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or folder is not there.
    #[error("{} is missing: {wanted}", .path.display())]
    Missing {
        /// What was looked for.
        path: PathBuf,
        /// What should be there, and where it is looked for.
        wanted: String,
    },

    /// A file is there and could not be read.
    #[error("cannot read {}: {source}", .path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// A file ends too early.
    #[error("{} is truncated: it holds {actual} bytes where {expected} are needed; fetch it again", .file.display())]
    Truncated {
        /// The file.
        file: PathBuf,
        /// Bytes that a whole file would hold.
        expected: u64,
        /// Bytes that it does hold (after decompression).
        actual: u64,
    },

    /// A file goes on after its last record.
    #[error("{} goes on after the {expected} bytes that its header announces; it is damaged, or of another format", .file.display())]
    TrailingBytes {
        /// The file.
        file: PathBuf,
        /// Bytes that it should hold.
        expected: u64,
    },

    /// A file does not begin as its format demands.
    #[error("{} begins with 0x{actual:08x} where an IDX file of {content} begins with 0x{expected:08x}; is it another file?", .file.display())]
    BadMagic {
        /// The file.
        file: PathBuf,
        /// What the file should hold: images or labels.
        content: &'static str,
        /// The number that should be there.
        expected: u32,
        /// The number that is there.
        actual: u32,
    },

    /// The header of a file announces more than any computer holds, or pictures of no size.
    #[error("the header of {} announces {count} pictures of {height} x {width} pixels, which cannot be; it is damaged", .file.display())]
    BadHeader {
        /// The file.
        file: PathBuf,
        /// Pictures announced.
        count: u32,
        /// Rows announced.
        height: u32,
        /// Columns announced.
        width: u32,
    },

    /// Pictures and labels do not pair up.
    #[error("{} holds {images} pictures but {} holds {labels} labels; they belong to different sets", .image_file.display(), .label_file.display())]
    CountMismatch {
        /// The file of pictures.
        image_file: PathBuf,
        /// How many pictures.
        images: usize,
        /// The file of labels.
        label_file: PathBuf,
        /// How many labels.
        labels: usize,
    },

    /// A label names no class.
    #[error("{}, record {record}: label {label} is out of range, the set has classes 0 to {}; the file is damaged or of another set", .file.display(), .classes - 1)]
    LabelOutOfRange {
        /// The file.
        file: PathBuf,
        /// The record in that file, counted from zero.
        record: usize,
        /// The label found.
        label: u32,
        /// How many classes the set has.
        classes: usize,
    },

    /// A picture cannot be decoded.
    #[error("cannot decode the picture {}: {reason}; repair or remove it", .file.display())]
    Undecodable {
        /// The file.
        file: PathBuf,
        /// What the decoder said.
        reason: String,
    },

    /// There are no pictures.
    #[error("{} holds no pictures", .path.display())]
    Empty {
        /// The file or folder.
        path: PathBuf,
    },

    /// Pictures of no size were asked for.
    #[error("pictures were to be resized to 0 x 0 pixels; ask for a size of at least 1")]
    EmptyImage,

    /// The data set is spelled in a way that means nothing.
    #[error(
        "`{spelling}` names no data set; use cifar10:DIR, cifar100:DIR, idx:DIR, images:DIR or shapes"
    )]
    UnknownSource {
        /// What was given.
        spelling: String,
    },

    /// The augmentation is spelled in a way that means nothing.
    #[error("`{spelling}` is no augmentation; use crop, flip, crop,flip or none")]
    UnknownAugmentation {
        /// What was given.
        spelling: String,
    },

    /// A batch of no pictures was asked for.
    #[error("a batch of 0 pictures was asked for; ask for at least 1")]
    EmptyBatch,

    /// No whole batch can be made.
    #[error(
        "the training set has {pictures} pictures, fewer than one batch of {batch}; ask for a batch of {pictures} or less"
    )]
    BatchTooLarge {
        /// Pictures there are.
        pictures: usize,
        /// Pictures a batch.
        batch: usize,
    },

    /// Normalisation and pictures do not fit.
    #[error("the normalisation is for {normalized} channels but the pictures have {channels}")]
    ChannelMismatch {
        /// Channels of the normalisation.
        normalized: usize,
        /// Channels of the pictures.
        channels: usize,
    },

    /// Decoding a picture panicked, or no decoding thread could be started.
    #[error("decoding on a worker thread failed: {reason}")]
    Worker {
        /// What happened.
        reason: String,
    },
}
