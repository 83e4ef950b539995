//! What the whole-system tests share.

use smidgen::data::{DataSource, Dataset, IGNORE_LABEL, Split};
use smidgen::gpu::{Device, DeviceRequest};
use smidgen::{Graph, Session, SessionOptions, Training, zoo};
use smidgen_reference::golden::{data_folder, say_skipped};
use smidgen_reference::layout::to_quads;
use std::path::PathBuf;
use std::sync::Arc;

/// A folder or file of the test data; `None`, after saying so, where it is absent.
#[must_use]
pub fn test_data(path: &str) -> Option<PathBuf> {
    let path = data_folder().join(path);
    if path.exists() {
        return Some(path);
    }
    say_skipped(&format!("no test data at {}", path.display()));
    None
}

/// A device without run-time checks.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn device() -> Device {
    Device::open(&DeviceRequest::default())
        .unwrap_or_else(|error| panic!("these tests need a device: {error}"))
}

/// A session of a network of the zoo for 32x32 pictures of ten classes.
///
/// # Panics
/// If it cannot be made.
#[must_use]
pub fn session(model: &str, batch: u32, training: Option<Training>) -> Session {
    let graph = network(model);
    let options = SessionOptions {
        batch,
        training,
        budget: None,
    };
    Session::new(device(), &graph, &options, 1).unwrap_or_else(|error| panic!("{model}: {error}"))
}

/// A network of the zoo for 32x32 pictures of ten classes.
///
/// # Panics
/// If there is no such network.
#[must_use]
pub fn network(model: &str) -> Graph {
    zoo::build(model, 10, [3, 32, 32]).unwrap_or_else(|error| panic!("{error}"))
}

/// A batch of NCHW pictures in planes of quads.
#[must_use]
pub fn quads(nchw: &[f32], batch: usize) -> Vec<f32> {
    let channels = 3;
    to_quads(nchw, batch, channels, nchw.len() / batch / channels)
}

/// The first pictures of the built-in test set, normalised, as one batch.
///
/// # Panics
/// If they cannot be drawn.
#[must_use]
pub fn shapes_batch(batch: usize) -> (Vec<f32>, Vec<u32>) {
    let source: DataSource = "shapes".parse().unwrap_or_else(|error| panic!("{error}"));
    let data: Arc<dyn Dataset> = source
        .open(Split::Test)
        .unwrap_or_else(|error| panic!("{error}"));
    let loader = smidgen::data::Loader::evaluation(data, batch, source.normalization())
        .unwrap_or_else(|error| panic!("{error}"));
    match loader.epoch(0, 0).next() {
        Some(Ok(batch)) => {
            assert!(batch.labels.iter().all(|label| *label != IGNORE_LABEL));
            (batch.images, batch.labels)
        }
        other => panic!("no batch: {:?}", other.map(|result| result.map(|_| ()))),
    }
}
