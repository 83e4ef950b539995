//! MEST against the controls that could embarrass it, on a subset of CIFAR-10: the table of `docs/src/sparse.md`.
//!
//! `cargo run --release -p smidgen-recipes --example mest -- --data DIR [--sparsity 0.9] [--images 2500] [--epochs 8] [--seeds 3]`

#![allow(clippy::print_stdout)]

use smidgen::data::{DataError, Dataset, ImageShape, Loader, Normalization, Split};
use smidgen::gpu::{Device, DeviceRequest};
use smidgen::{Error, Graph, Session, SessionOptions, Sparsity, Trainer, TrainerOptions, Training};
use smidgen_graph::{Builder, Convolution, GraphError, MASK_SUFFIX, Role, Tensor, Weights};
use smidgen_recipes::{Mest, MestOptions};
use std::error::Error as StdError;
use std::ops::ControlFlow;
use std::sync::Arc;

const BATCH: u32 = 64;
const TEST_IMAGES: usize = 2000;
/// Output channels of the convolutions: of the network that is made sparse, and of dense ones with about as many parameters as it has
/// live ones at a sparsity of 0.8 and 0.9.
const WIDTHS: [u32; 5] = [16, 16, 32, 64, 64];
const SMALL_80: [u32; 5] = [8, 12, 16, 28, 28];
const SMALL_90: [u32; 5] = [8, 8, 12, 20, 20];

/// The first images of a data set.
struct First {
    all: Arc<dyn Dataset>,
    len: usize,
}

impl Dataset for First {
    fn len(&self) -> usize {
        self.len.min(self.all.len())
    }

    fn image_shape(&self) -> ImageShape {
        self.all.image_shape()
    }

    fn classes(&self) -> usize {
        self.all.classes()
    }

    fn label(&self, index: usize) -> u32 {
        self.all.label(index)
    }

    fn decode(&self, index: usize, image: &mut [u8]) -> Result<(), DataError> {
        self.all.decode(index, image)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Arm {
    Dense,
    Small,
    Random,
    Magnitude,
    Elastic,
    Soft,
}

const ARMS: [(Arm, &str); 6] = [
    (Arm::Dense, "dense"),
    (Arm::Small, "smaller dense network, as many parameters"),
    (Arm::Random, "static random mask"),
    (Arm::Magnitude, "static mask by magnitude at the start"),
    (Arm::Elastic, "MEST, elastic mutation"),
    (Arm::Soft, "MEST, elastic mutation with the soft bound"),
];

fn network(widths: [u32; 5]) -> Result<Graph, GraphError> {
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

/// A small generator for the random masks (PCG's output function over a linear congruence).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 ^ (self.0 >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16
    }
}

/// Random live blocks in every output quad, as masks of single weights.
fn random_masks(graph: &Graph, weights: &mut Weights, seed: u64) {
    let mut random = Random(seed);
    for layer in graph.sparse_layers() {
        let shape = graph.parameters()[layer.weight.0].shape.clone();
        let (inputs, taps) = (shape[1], shape[2] * shape[3]);
        let mut values = vec![0.0; shape.iter().product()];
        for quad in 0..shape[0].div_ceil(4) {
            let mut blocks: Vec<usize> = (0..layer.candidates as usize).collect();
            for live in 0..layer.blocks.slots as usize {
                let other = live + random.next() as usize % (blocks.len() - live);
                blocks.swap(live, other);
                let (input_quad, tap) = (blocks[live] / taps, blocks[live] % taps);
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

struct Settings {
    sparsity: f64,
    epochs: u32,
    train: Arc<dyn Dataset>,
    test: Arc<dyn Dataset>,
    normalization: Normalization,
}

/// Test accuracy in percent, and bytes of weights, gradients and momentum.
fn run(arm: Arm, seed: u64, settings: &Settings) -> Result<(f64, u64), Box<dyn StdError>> {
    let density = 1.0 - settings.sparsity;
    let small = if settings.sparsity > 0.85 {
        SMALL_90
    } else {
        SMALL_80
    };
    let mut graph = network(if arm == Arm::Small { small } else { WIDTHS })?;
    let mest = match arm {
        Arm::Elastic => Some(MestOptions::elastic(density, settings.epochs)),
        Arm::Soft => Some(MestOptions::soft(density, settings.epochs)),
        _ => None,
    };
    if !matches!(arm, Arm::Dense | Arm::Small) {
        graph.sparsify(&Sparsity {
            most: mest.map_or(density, |mest| mest.most()),
            ..Sparsity::uniform(density)
        })?;
    }
    let options = SessionOptions {
        batch: BATCH,
        training: Some(Training::default()),
        budget: None,
    };
    let mut session = Session::new(
        Device::open(&DeviceRequest::default())?,
        &graph,
        &options,
        seed,
    )?;
    if arm == Arm::Random {
        let mut weights = graph.initialize(seed);
        random_masks(&graph, &mut weights, seed);
        session.load(&weights)?;
    }
    let roles = [
        Role::Parameter,
        Role::ParameterGradient,
        Role::OptimizerState,
    ];
    let values = session.main_program().values.iter();
    let bytes = values
        .zip(&session.plan().programs[0].values)
        .filter(|(value, _)| roles.contains(&value.role))
        .filter_map(|(_, place)| *place)
        .map(|place| place.bytes)
        .sum();
    let options = TrainerOptions {
        epochs: settings.epochs,
        learning_rate: 0.1,
        seed,
        augment: "crop,flip".parse()?,
        normalization: settings.normalization.clone(),
        ..TrainerOptions::default()
    };
    let train = Arc::clone(&settings.train);
    let mut trainer = Trainer::new(&mut session, train, None, options)?;
    if let Some(mest) = mest {
        let mest = MestOptions {
            seed: seed as u32,
            ..mest
        };
        trainer = trainer.with_recipe(Mest::new(&graph, &mest)?);
    }
    trainer.run(|_| ControlFlow::Continue(()))?;
    drop(trainer);
    let test = Arc::clone(&settings.test);
    let loader = Loader::evaluation(test, BATCH as usize, settings.normalization.clone())?;
    let metrics = smidgen::evaluate(&mut session, &loader, |_| ControlFlow::Continue(()))?;
    let metrics = metrics.ok_or("the evaluation was interrupted")?;
    Ok((100.0 * metrics.accuracy(), bytes))
}

fn main() -> Result<(), Box<dyn StdError>> {
    let (mut data, mut sparsity, mut images, mut epochs, mut seeds) = (None, 0.9, 2500, 8, 3);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or(format!("{word} needs a value"))?;
        match word.as_str() {
            "--data" => data = Some(value),
            "--sparsity" => sparsity = value.parse()?,
            "--images" => images = value.parse()?,
            "--epochs" => epochs = value.parse()?,
            "--seeds" => seeds = value.parse::<u64>()?,
            _ => return Err(format!("unknown option {word}").into()),
        }
    }
    let source: smidgen::data::DataSource =
        format!("cifar10:{}", data.ok_or("--data DIR is needed")?).parse()?;
    let first = |split, len| -> Result<Arc<dyn Dataset>, Error> {
        Ok(Arc::new(First {
            all: source.open(split)?,
            len,
        }))
    };
    let settings = Settings {
        sparsity,
        epochs,
        train: first(Split::Train, images)?,
        test: first(Split::Test, TEST_IMAGES)?,
        normalization: source.normalization(),
    };
    println!(
        "CIFAR-10, first {images} training and {TEST_IMAGES} test images, {epochs} epochs, sparsity {sparsity}, seeds 1 to {seeds}\n"
    );
    println!(
        "| network | test accuracy, % | each seed | bytes of weights, gradients, momentum |\n|---|---|---|---|"
    );
    for (arm, name) in ARMS {
        let (mut accuracies, mut held) = (Vec::new(), 0);
        for seed in 1..=seeds {
            let (accuracy, bytes) = run(arm, seed, &settings)?;
            accuracies.push(accuracy);
            held = bytes;
        }
        let count = accuracies.len() as f64;
        let mean = accuracies.iter().sum::<f64>() / count;
        let squares: f64 = accuracies.iter().map(|one| (one - mean).powi(2)).sum();
        let deviation = (squares / (count - 1.0).max(1.0)).sqrt();
        let each: Vec<String> = accuracies.iter().map(|one| format!("{one:.1}")).collect();
        println!(
            "| {name} | {mean:.1} ± {deviation:.1} | {} | {held} |",
            each.join(", ")
        );
    }
    Ok(())
}
