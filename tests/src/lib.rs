//! What the whole-system tests share.

use smidgen::data::{DataSource, Dataset, IGNORE_LABEL, Split};
use smidgen::gpu::{Device, DeviceRequest};
use smidgen::{Graph, Session, SessionOptions, Sparsity, Training, zoo};
use smidgen_graph::{Builder, Convolution, GraphError};
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

/// A network of a convolution that stays dense, two that can be sparse (3x3 with a bias and no norm, and 1x1), and two linear layers, of
/// which the first can be sparse; with so many channels.
///
/// # Panics
/// If these cannot be so sparse.
#[must_use]
pub fn sparse_network([stem, middle, point]: [u32; 3], density: Option<f64>) -> Graph {
    let build = || -> Result<Graph, GraphError> {
        let mut network = Builder::new("small", [3, 32, 32])?;
        let x = network.input();
        let convolution = Convolution::new(stem, 3).stride(4).padding(1);
        let x = network.convolution("stem", x, convolution)?;
        let x = network.batch_norm("norm", x)?;
        let x = network.relu(x)?;
        let convolution = Convolution::new(middle, 3).stride(2).padding(1);
        let x = network.convolution("middle", x, convolution)?;
        let x = network.relu(x)?;
        let x = network.convolution("point", x, Convolution::new(point, 1))?;
        let x = network.batch_norm("norm2", x)?;
        let x = network.relu(x)?;
        let x = network.global_average_pool(x)?;
        let x = network.linear("hidden", x, 16)?;
        let x = network.linear("classes", x, 10)?;
        let mut graph = network.finish(x)?;
        if let Some(density) = density {
            graph.sparsify(&Sparsity::uniform(density))?;
        }
        Ok(graph)
    };
    build().unwrap_or_else(|error| panic!("{error}"))
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
