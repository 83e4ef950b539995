//! Image data sets, augmentation and batch loading for training.
//!
//! A [`DataSource`] names a data set the way the command line does. Opening one split of it checks the whole
//! set (every size, every label) and gives a [`Dataset`]. A [`Loader`] then turns it into [`Batch`]es: decoded,
//! augmented and normalised on worker threads, in an order that depends on the seed and the epoch alone, and
//! laid out as planes of quads, so that a batch is uploaded as it is.
//!
//! ```
//! use smidgen_data::{Augment, DataSource, Loader, Split};
//!
//! let source: DataSource = "shapes".parse()?;
//! let loader = Loader::training(
//!     source.open(Split::Train)?,
//!     64,
//!     source.normalization(),
//!     Augment { crop: true, flip: true },
//!     1,
//! )?;
//! let epoch = 0;
//! for batch in loader.epoch(epoch, 0).take(2) {
//!     let batch = batch?;
//!     assert_eq!(batch.images.len(), 64 * 32 * 32 * 4);
//!     loader.recycle(batch);
//! }
//! # Ok::<(), smidgen_data::DataError>(())
//! ```
//!
//! Every random draw is a function of the seed, the epoch and the picture, never of threads or time. A run that
//! resumes at batch `n` with `loader.epoch(epoch, n)` therefore sees the same bytes as one that never stopped.

#![deny(missing_docs)]

mod batch;
mod cifar;
pub mod corruption;
mod dataset;
mod error;
mod file;
mod folder;
mod idx;
mod loader;
mod order;
mod preprocess;
mod random;
mod shapes;
mod source;

pub use batch::{Batch, IGNORE_LABEL};
pub use cifar::Cifar;
pub use dataset::{Dataset, ImageShape, Split};
pub use error::DataError;
pub use folder::ImageFolder;
pub use idx::Idx;
pub use loader::{Epoch, Loader};
pub use order::epoch_order;
pub use preprocess::{Augment, CROP_PADDING, Normalization};
pub use shapes::{ShapeKind, Shapes};
pub use source::{DEFAULT_IMAGE_SIZE, DataSource};
