//! Train neural networks on any GPU, in the bytes you name.
//!
//! A [`Graph`] says which network, a [`DataSource`](data::DataSource) which data, a budget how many bytes the device may give. A
//! [`Session`] plans every byte before it reserves the first, refuses with the least that would do where the plan does not fit,
//! and then never holds more. A [`Trainer`] runs the epochs.
//!
//! ```no_run
//! use smidgen::{Bytes, Session, SessionOptions, Trainer, TrainerOptions, Training, zoo};
//! use smidgen::data::{DataSource, Split};
//! use smidgen::gpu::{Device, DeviceRequest};
//! use std::ops::ControlFlow;
//!
//! let source: DataSource = "shapes".parse()?;
//! let graph = zoo::build("resnet20", 10, [3, 32, 32])?;
//! let options = SessionOptions { batch: 32, training: Some(Training::default()), budget: Some("64MiB".parse()?) };
//! let mut session = Session::new(Device::open(&DeviceRequest::default())?, &graph, &options, 1)?;
//! println!("{} of the device", session.footprint().total());
//!
//! let (train, test) = (source.open(Split::Train)?, source.open(Split::Test)?);
//! let summary = Trainer::new(&mut session, train, Some(test), TrainerOptions::default())?.run(|event| {
//!     println!("{event:?}");
//!     ControlFlow::Continue(())
//! })?;
//! # Ok::<(), smidgen::Error>(())
//! ```
#![deny(missing_docs)]

pub mod bench;
mod bytes;
pub mod checkpoint;
mod error;
mod filtering;
mod fit;
mod footprint;
mod kernels;
mod metrics;
mod probe;
pub mod profile;
mod schedule;
mod session;
mod trainer;
mod tuning;

pub use bytes::{Bytes, ParseBytesError};
pub use checkpoint::Progress;
pub use error::Error;
pub use filtering::{
    Closeness, FilterChoice, FilterPoint, closeness, explain_filters, filter_close_ones,
    filter_where_demanded,
};
pub use fit::Fit;
pub use footprint::Footprint;
pub use metrics::Metrics;
pub use probe::{GradientError, Probe, gradient_error_pictures, gradient_errors, probe_pictures};
pub use schedule::Schedule;
pub use session::{
    Blueprint, Growth, HostTime, MASK_SUFFIX, MaskReport, MicroBatchPoint, PlanFile, PlanPoint,
    Plans, RaceTime, Remedy, STEPS_IN_FLIGHT, Session, SessionOptions, StashBound, StashPoint,
    StepOptions, Training, WholePlan, largest_batch, micro_batch_points, micro_batch_within,
};
pub use trainer::{
    Checkpoints, End, Event, Recipe, Remaining, Summary, Trainer, TrainerOptions, evaluate,
};
pub use tuning::{Choices, CostReport, Tuning, TuningReport, cache_folder};

/// What a mutation does to the output groups of a sparse layer.
pub use smidgen_conv::sparse::Order;
pub use smidgen_data as data;
pub use smidgen_gpu as gpu;
pub use smidgen_graph::{
    Distribution, ExampleMemory, FilterState, Graph, Optimizer, Rehearsal, SparseLayer, Sparsity,
    forms, replace_file, zoo,
};
pub use smidgen_ops::clip::LossScale;
/// What is known of a training example whose forgetting is counted.
pub use smidgen_ops::loss::ExampleRecord;
/// The word for a range of classes, and the slot of a picture that takes none, in the labels of a session that rehearses.
pub use smidgen_ops::rehearsal::{NO_SLOT, class_range};
pub use smidgen_plan as plan;
