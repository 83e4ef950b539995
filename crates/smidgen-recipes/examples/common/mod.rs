//! What the experiments share: the first images of CIFAR-10, a small network, random masks, and tables that are written as they grow.

#![allow(dead_code, clippy::print_stdout)]

use smidgen::data::{DataError, DataSource, Dataset, ImageShape, Loader, Normalization, Split};
use smidgen::gpu::{Device, DeviceRequest};
use smidgen::{Graph, Session, SessionOptions, Training};
use smidgen_graph::{Builder, Convolution, GraphError, MASK_SUFFIX, Role, Tensor, Weights};
use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// As published for a batch of 64 and a rate of 0.1.
pub(crate) const BATCH: u32 = 32;
pub(crate) const LEARNING_RATE: f64 = 0.05;
pub(crate) const TEST_IMAGES: usize = 2000;
/// Output channels of the convolutions: of the network that is made sparse, and of dense ones with about as many parameters as it has
/// live ones at a sparsity of 0.8 and 0.9.
pub(crate) const WIDTHS: [u32; 5] = [16, 16, 32, 64, 64];
pub(crate) const SMALL_80: [u32; 5] = [8, 12, 16, 28, 28];
pub(crate) const SMALL_90: [u32; 5] = [8, 8, 12, 20, 20];

/// Some images of a data set, by their numbers.
pub(crate) struct Some {
    pub(crate) all: Arc<dyn Dataset>,
    pub(crate) images: Vec<usize>,
}

impl Dataset for Some {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn image_shape(&self) -> ImageShape {
        self.all.image_shape()
    }

    fn classes(&self) -> usize {
        self.all.classes()
    }

    fn label(&self, index: usize) -> u32 {
        self.all.label(self.images[index])
    }

    fn decode(&self, index: usize, image: &mut [u8]) -> Result<(), DataError> {
        self.all.decode(self.images[index], image)
    }
}

/// CIFAR-10, as much of it as is used.
pub(crate) struct Data {
    pub(crate) train: Arc<dyn Dataset>,
    pub(crate) test: Arc<dyn Dataset>,
    pub(crate) normalization: Normalization,
}

impl Data {
    /// The first images of both splits.
    pub(crate) fn first(folder: &str, images: usize) -> Outcome<Self> {
        Self::of(folder, [images, TEST_IMAGES])
    }

    /// So many of the training and of the test images, from the first on.
    pub(crate) fn of(folder: &str, [images, test_images]: [usize; 2]) -> Outcome<Self> {
        let source: DataSource = format!("cifar10:{folder}").parse()?;
        let first = |split, len: usize| -> Outcome<Arc<dyn Dataset>> {
            let all = source.open(split)?;
            let images = (0..len.min(all.len())).collect();
            Ok(Arc::new(Some { all, images }))
        };
        Ok(Self {
            train: first(Split::Train, images)?,
            test: first(Split::Test, test_images)?,
            normalization: source.normalization(),
        })
    }

    /// Test accuracy of a session, in percent.
    pub(crate) fn accuracy(&self, session: &mut Session) -> Outcome<f64> {
        let batch = session.batch() as usize;
        let loader = Loader::evaluation(Arc::clone(&self.test), batch, self.normalization.clone())?;
        let metrics = smidgen::evaluate(session, &loader, |_| ControlFlow::Continue(()))?;
        Ok(100.0 * metrics.ok_or("the evaluation was interrupted")?.accuracy())
    }
}

/// Five 3x3 convolutions with batch norm and ReLU, the first and third of stride 2.
pub(crate) fn network(widths: [u32; 5]) -> Result<Graph, GraphError> {
    let mut network = Builder::new("plain5", [3, 32, 32])?;
    let mut x = network.input();
    for (at, (channels, stride)) in widths.into_iter().zip([2, 1, 2, 1, 1]).enumerate() {
        let convolution = Convolution::new(channels, 3)
            .stride(stride)
            .padding(1)
            .without_bias();
        x = network.convolution(&format!("conv{at}"), x, convolution)?;
        x = network.batch_norm(&format!("norm{at}"), x)?;
        x = network.relu(x)?;
    }
    let x = network.global_average_pool(x)?;
    let x = network.linear("classes", x, 10)?;
    network.finish(x)
}

pub(crate) fn session(
    graph: &Graph,
    batch: u32,
    training: Training,
    seed: u64,
) -> Outcome<Session> {
    let options = SessionOptions {
        batch,
        training: Option::Some(training),
        budget: None,
    };
    let device = Device::open(&DeviceRequest::default())?;
    Ok(Session::new(device, graph, &options, seed)?)
}

/// Bytes of weights, gradients and optimiser state.
pub(crate) fn parameter_bytes(session: &Session) -> u64 {
    let roles = [
        Role::Parameter,
        Role::ParameterGradient,
        Role::OptimizerState,
    ];
    let values = session.main_program().values.iter();
    values
        .zip(&session.plan().programs[0].values)
        .filter(|(value, _)| roles.contains(&value.role))
        .filter_map(|(_, place)| *place)
        .map(|place| place.bytes)
        .sum()
}

/// A small generator (PCG's output function over a linear congruence).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 ^ (self.0 >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16
    }

    /// The first `count` of a random order of `all`.
    pub(crate) fn draw<T>(&mut self, all: &mut Vec<T>, count: usize) {
        for at in 0..count {
            let other = at + self.next() as usize % (all.len() - at);
            all.swap(at, other);
        }
        all.truncate(count);
    }
}

/// Random live blocks in every output quad, as masks of single weights.
pub(crate) fn random_masks(graph: &Graph, weights: &mut Weights, seed: u64) {
    let mut random = Random(seed);
    for layer in graph.sparse_layers() {
        let shape = graph.parameters()[layer.weight.0].shape.clone();
        let (inputs, taps) = (shape[1], shape[2] * shape[3]);
        let mut values = vec![0.0; shape.iter().product()];
        for quad in 0..shape[0].div_ceil(4) {
            let mut blocks: Vec<usize> = (0..layer.candidates as usize).collect();
            random.draw(&mut blocks, layer.blocks.slots as usize);
            for block in blocks {
                let (input_quad, tap) = (block / taps, block % taps);
                for output in (quad * 4..quad * 4 + 4).filter(|output| *output < shape[0]) {
                    for input in (input_quad * 4..input_quad * 4 + 4).filter(|i| *i < inputs) {
                        values[(output * inputs + input) * taps + tap] = 1.0;
                    }
                }
            }
        }
        let name = format!("{}{MASK_SUFFIX}", layer.name);
        weights.tensors.insert(name, Tensor { shape, values });
    }
}

/// Words of a command line: `--name value` pairs.
pub(crate) struct Words(BTreeMap<String, String>);

impl Words {
    pub(crate) fn of_the_command_line(known: &[&str]) -> Outcome<Self> {
        let mut words = std::env::args().skip(1);
        let mut given = BTreeMap::new();
        while let Some(word) = words.next() {
            if !known.contains(&word.trim_start_matches("--")) {
                return Err(format!("unknown option {word}; there are {known:?}").into());
            }
            let value = words.next().ok_or(format!("{word} needs a value"))?;
            given.insert(word.trim_start_matches("--").to_owned(), value);
        }
        Ok(Self(given))
    }

    pub(crate) fn get<T: std::str::FromStr>(&self, name: &str, default: T) -> Outcome<T>
    where
        T::Err: Error + 'static,
    {
        Ok(match self.0.get(name) {
            Option::Some(value) => value.parse()?,
            None => default,
        })
    }

    pub(crate) fn needed(&self, name: &str) -> Outcome<&str> {
        let value = self.0.get(name).map(String::as_str);
        value.ok_or_else(|| format!("--{name} is needed").into())
    }
}

/// Numbers of runs that are done, kept in a file (if one is named) as soon as there are any, so that an interrupted experiment goes on
/// where it was.
pub(crate) struct Runs {
    file: Option<PathBuf>,
    done: BTreeMap<String, Vec<f64>>,
}

impl Runs {
    /// The first line of the file names the settings, which must be the same.
    pub(crate) fn open(file: Option<&str>, settings: &str) -> Outcome<Self> {
        let file = file.map(PathBuf::from);
        let mut done = BTreeMap::new();
        if let Option::Some(path) = &file {
            if path.exists() {
                let text = fs::read_to_string(path)?;
                let mut lines = text.lines();
                if lines.next() != Option::Some(settings) {
                    return Err(format!("{} is of other settings", path.display()).into());
                }
                for line in lines {
                    let mut words = line.split('\t');
                    let key = words.next().unwrap_or_default().to_owned();
                    let numbers: Result<Vec<f64>, _> = words.map(str::parse).collect();
                    done.insert(key, numbers?);
                }
            } else {
                fs::write(path, format!("{settings}\n"))?;
            }
        }
        Ok(Self { file, done })
    }

    pub(crate) fn of(
        &mut self,
        key: &str,
        run: impl FnOnce() -> Outcome<Vec<f64>>,
    ) -> Outcome<Vec<f64>> {
        if let Option::Some(numbers) = self.done.get(key) {
            return Ok(numbers.clone());
        }
        let numbers = run()?;
        if let Option::Some(path) = &self.file {
            let words: Vec<String> = numbers.iter().map(f64::to_string).collect();
            let line = format!("{key}\t{}\n", words.join("\t"));
            OpenOptions::new()
                .append(true)
                .open(path)?
                .write_all(line.as_bytes())?;
        }
        Ok(numbers)
    }
}

/// Mean and standard deviation, and each number.
pub(crate) fn spread(numbers: &[f64]) -> String {
    let count = numbers.len() as f64;
    let mean = numbers.iter().sum::<f64>() / count;
    let squares: f64 = numbers.iter().map(|one| (one - mean).powi(2)).sum();
    let deviation = (squares / (count - 1.0).max(1.0)).sqrt();
    let each: Vec<String> = numbers.iter().map(|one| format!("{one:.1}")).collect();
    format!("{mean:.1} ± {deviation:.1} | {}", each.join(", "))
}
