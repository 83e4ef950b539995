//! What gradient filtering does to learning: ResNet-20 is trained on the CIFAR-10 classes 0 to 5, then its last convolutions and its classifier
//! are fine-tuned on the classes 4 to 9, with exact and with filtered gradients, and a table is printed.
//!
//! `cargo run --release -p smidgen --example filtering` reads the data below `SMIDGEN_DATA` (`../shared/data` if unset) and skips where there is
//! none. `-- --quick` is for seeing that it runs.
//!
//! As in the paper (Yang, Li and Marculescu, CVPR 2023), batch norms use their running statistics and are not trained while fine-tuning.
#![allow(clippy::print_stdout, clippy::print_stderr)] // A table is what this program is for.

use smidgen::data::{Augment, DataError, DataSource, Dataset, ImageShape, Loader, Split};
use smidgen::gpu::{Device, DeviceRequest};
use smidgen::{
    Error, Graph, Optimizer, Probe, Schedule, Session, SessionOptions, Trainer, TrainerOptions,
    Training, closeness, zoo,
};
use smidgen_graph::{OperationKind, Phase, Program, Weights};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

const BATCH: u32 = 25;
const FIRST: [u32; 6] = [0, 1, 2, 3, 4, 5];
const SECOND: [u32; 6] = [4, 5, 6, 7, 8, 9];
/// Convolutions of ResNet-20.
const ALL: usize = 19;

/// How much is run.
struct Size {
    pretrained: usize,
    pretraining_epochs: u32,
    tuned: usize,
    passes: usize,
    tested: usize,
    seeds: &'static [u64],
}

const WHOLE: Size = Size {
    pretrained: 3000,
    pretraining_epochs: 4,
    tuned: 1000,
    passes: 3,
    tested: 500,
    seeds: &[1, 2, 3],
};

const QUICK: Size = Size {
    pretrained: 200,
    pretraining_epochs: 1,
    tuned: 100,
    passes: 1,
    tested: 100,
    seeds: &[1],
};

/// The pictures of some classes, at most so many, and several times where they are to be passed several times without an evaluation between.
struct Classes {
    all: Arc<dyn Dataset>,
    pictures: Vec<usize>,
}

impl Classes {
    fn of(all: Arc<dyn Dataset>, classes: &[u32], most: usize, passes: usize) -> Arc<dyn Dataset> {
        let wanted = (0..all.len()).filter(|&index| classes.contains(&all.label(index)));
        let once: Vec<usize> = wanted.take(most).collect();
        let pictures = once.repeat(passes);
        Arc::new(Self { all, pictures })
    }
}

impl Dataset for Classes {
    fn len(&self) -> usize {
        self.pictures.len()
    }

    fn classes(&self) -> usize {
        self.all.classes()
    }

    fn image_shape(&self) -> ImageShape {
        self.all.image_shape()
    }

    fn label(&self, index: usize) -> u32 {
        self.all.label(self.pictures[index])
    }

    fn decode(&self, index: usize, image: &mut [u8]) -> Result<(), DataError> {
        self.all.decode(self.pictures[index], image)
    }
}

/// One row of the table: the last so many convolutions, with patches or exact.
#[derive(Clone, Copy)]
struct Arm {
    convolutions: usize,
    patch: Option<u32>,
}

impl Arm {
    fn name(self) -> String {
        let how = match self.patch {
            Some(patch) => format!("patch {patch}"),
            None => "exact".to_owned(),
        };
        match self.convolutions {
            0 => "head only".to_owned(),
            ALL => format!("all {ALL}, {how}"),
            last => format!("last {last}, {how}"),
        }
    }

    fn graph(self) -> Result<Graph, Error> {
        let mut graph = zoo::build("resnet20", 10, [3, 32, 32])?;
        graph.train_last(self.convolutions)?;
        graph.freeze("*bn*")?;
        graph.freeze_statistics();
        if let Some(patch) = self.patch {
            graph.filter_last(self.convolutions, patch)?;
        }
        Ok(graph)
    }
}

fn arms() -> Vec<Arm> {
    let mut arms = vec![Arm {
        convolutions: 0,
        patch: None,
    }];
    for convolutions in [1, 2, 4, 6, ALL] {
        for patch in [None, Some(2), Some(4)] {
            arms.push(Arm {
                convolutions,
                patch,
            });
        }
    }
    arms
}

/// What a training step of one picture costs backward.
struct Cost {
    multiply_adds: u64,
    /// Of the inputs of trained convolutions, or their patch sums: what the paper counts.
    input_bytes: u64,
    /// Of everything that the forward pass leaves for the backward pass.
    stashed_bytes: u64,
}

fn cost(program: &Program) -> Cost {
    let mut needed = Vec::new();
    let mut inputs = Vec::new();
    let mut multiply_adds = 0;
    for operation in &program.operations {
        if operation.phase != Phase::Backward {
            continue;
        }
        multiply_adds += smidgen::plan::multiply_adds(&operation.kind);
        let of_weight = match &operation.kind {
            OperationKind::ConvolutionWeightGradient { shape, .. } => shape.height > 1,
            OperationKind::FilterWeightGradient { .. } => true,
            _ => false,
        };
        for (id, _) in operation.needs() {
            let bytes = program.value(id).layout.bytes();
            needed.push((id, bytes));
            if of_weight && matches!(program.value(id).layout, smidgen_graph::Layout::Map(_)) {
                inputs.push((id, bytes));
            }
        }
    }
    let sum = |mut list: Vec<(smidgen_graph::ValueId, u64)>| {
        list.sort();
        list.dedup();
        list.iter().map(|(_, bytes)| bytes).sum::<u64>() / u64::from(program.batch)
    };
    Cost {
        multiply_adds: multiply_adds / u64::from(program.batch),
        input_bytes: sum(inputs),
        stashed_bytes: sum(needed),
    }
}

/// Trains and returns the accuracy, the weights and what a step costs.
fn train(
    graph: &Graph,
    weights: Option<&Weights>,
    [train, test]: [&Arc<dyn Dataset>; 2],
    options: TrainerOptions,
    training: Training,
) -> Result<(f64, Weights, Cost), Error> {
    let seed = options.seed;
    let device = Device::open(&DeviceRequest::default())?;
    let session_options = SessionOptions {
        batch: BATCH,
        training: Some(training),
        budget: None,
    };
    let mut session = Session::new(device, graph, &session_options, seed)?;
    if let Some(weights) = weights {
        session.load(weights)?;
    }
    let epochs = options.epochs;
    let test = (epochs > 0).then(|| Arc::clone(test));
    let mut trainer = Trainer::new(&mut session, Arc::clone(train), test, options)?;
    let summary = trainer.run(|_| ControlFlow::Continue(()))?;
    let accuracy = summary
        .evaluation
        .map_or(f64::NAN, |found| found.accuracy());
    let cost = cost(session.main_program());
    Ok((accuracy, session.weights()?, cost))
}

fn sgd(momentum: f32) -> Training {
    Training {
        optimizer: Optimizer::Sgd {
            momentum,
            nesterov: false,
            weight_decay: 1e-4,
        },
        ..Training::default()
    }
}

/// Cosines of the filtered layers on one batch, after fine-tuning, the first layer first.
fn cosines(
    graph: &Graph,
    weights: &Weights,
    data: &Arc<dyn Dataset>,
    source: &DataSource,
) -> Result<String, Error> {
    let loader = Loader::training(
        Arc::clone(data),
        BATCH as usize,
        source.normalization(),
        Augment::default(),
        1,
    )?;
    let Some(batch) = loader.epoch(0, 0).next().transpose()? else {
        return Ok(String::new());
    };
    let probe = Probe {
        images: &batch.images,
        labels: &batch.labels,
        weights: Some(weights),
        seed: 1,
        budget: None,
    };
    let found = closeness(&DeviceRequest::default(), graph, &probe)?;
    let list: Vec<String> = found
        .iter()
        .map(|one| format!("{:.2}", one.cosine))
        .collect();
    Ok(list.join(" "))
}

fn main() -> Result<(), Error> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let size = if quick { QUICK } else { WHOLE };
    let folder = std::env::var_os("SMIDGEN_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let source = DataSource::Cifar10(folder.join("cifar-10-batches-bin"));
    let (all, all_tests) = match (source.open(Split::Train), source.open(Split::Test)) {
        (Ok(train), Ok(test)) => (train, test),
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("skipped: {error}");
            return Ok(());
        }
    };
    let before = Classes::of(Arc::clone(&all), &FIRST, size.pretrained, 1);
    let before_test = Classes::of(Arc::clone(&all_tests), &FIRST, size.tested, 1);
    let after = Classes::of(all, &SECOND, size.tuned, size.passes);
    let after_test = Classes::of(all_tests, &SECOND, size.tested, 1);
    let normalization = source.normalization();

    let options = TrainerOptions {
        epochs: size.pretraining_epochs,
        learning_rate: 0.1,
        schedule: Schedule::Cosine { warm_up: 0.0 },
        seed: 1,
        normalization: normalization.clone(),
        ..TrainerOptions::default()
    };
    let graph = zoo::build("resnet20", 10, [3, 32, 32])?;
    let (accuracy, mut weights, _) =
        train(&graph, None, [&before, &before_test], options, sgd(0.9))?;
    println!(
        "pretrained on {} pictures of classes 0 to 5, {} epochs: {:.1} % on {} test pictures of them\n",
        before.len(),
        size.pretraining_epochs,
        100.0 * accuracy,
        before_test.len()
    );
    println!(
        "fine-tuned on {} pictures of classes 4 to 9, {} passes, tested on {}; bytes and multiply-adds of one picture\n",
        size.tuned,
        size.passes,
        after_test.len()
    );
    println!(
        "| trained | accuracy, mean (least to most) | backward multiply-adds | stored inputs | all stashes | cosine of each layer |\n|---|---|---|---|---|---|"
    );
    // The classifier starts anew: what it says of classes that it never saw would shake all that stands before it.
    for parameter in graph.parameters().iter().rev().take(2) {
        if let Some(tensor) = weights.tensors.get_mut(&parameter.name) {
            tensor.values.fill(0.0);
        }
    }
    for arm in arms() {
        let graph = arm.graph()?;
        let (mut accuracies, mut last) = (Vec::new(), None);
        for &seed in size.seeds {
            let options = TrainerOptions {
                epochs: 1,
                learning_rate: 0.05,
                schedule: Schedule::Cosine { warm_up: 0.0 },
                seed,
                normalization: normalization.clone(),
                ..TrainerOptions::default()
            };
            let data = [&after, &after_test];
            let training = Training {
                clip_norm: Some(2.0),
                ..sgd(0.0)
            };
            let (accuracy, tuned, cost) = train(&graph, Some(&weights), data, options, training)?;
            accuracies.push(100.0 * accuracy);
            last = Some((cost, tuned));
        }
        let Some((cost, tuned)) = last else { continue };
        let mean = accuracies.iter().sum::<f64>() / accuracies.len() as f64;
        let least = accuracies.iter().copied().fold(f64::INFINITY, f64::min);
        let most = accuracies.iter().copied().fold(0.0, f64::max);
        let kibibytes = |bytes: u64| bytes as f64 / 1024.0;
        println!(
            "| {} | {mean:.1} % ({least:.1} to {most:.1}) | {:.2} M | {:.1} KiB | {:.1} KiB | {} |",
            arm.name(),
            cost.multiply_adds as f64 / 1e6,
            kibibytes(cost.input_bytes),
            kibibytes(cost.stashed_bytes),
            match arm.patch {
                Some(_) => cosines(&graph, &tuned, &after, &source)?,
                None => String::new(),
            }
        );
    }
    Ok(())
}
