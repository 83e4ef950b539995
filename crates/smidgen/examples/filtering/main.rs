//! What gradient filtering does to learning: ResNet-8 is trained on the CIFAR-10 classes 0 to 5, then its last convolutions and a new
//! classifier are fine-tuned on the classes 4 to 9, with exact and with filtered gradients, and two tables are printed.
//!
//! `cargo run --release -p smidgen --example filtering -- FOLDER` reads the data below `SMIDGEN_DATA` (`../shared/data` if unset) and skips where
//! there is none. Whatever is finished is kept in `FOLDER` (`target/filtering` if none is named), and the next run goes on from there.
//! `-- --quick` is for seeing that it runs.
//!
//! As in the paper (Yang, Li and Marculescu, CVPR 2023), batch norms use their running statistics and are not trained while fine-tuning.
#![allow(clippy::print_stdout, clippy::print_stderr)] // A table is what this program is for.

mod arm;
mod classes;
mod kept;
mod recipe;
mod table;

use arm::{Arm, Cost};
use classes::Classes;
use kept::Kept;
use recipe::{QUICK, Recipe, Size, WHOLE};
use serde::{Deserialize, Serialize};
use smidgen::data::{Augment, DataSource, Dataset, Loader, Split};
use smidgen::gpu::{Device, DeviceRequest};
use smidgen::{
    Error, Graph, Probe, Session, SessionOptions, Trainer, checkpoint, closeness, evaluate,
};
use smidgen_graph::Weights;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FIRST: [u32; 6] = [0, 1, 2, 3, 4, 5];
const SECOND: [u32; 6] = [4, 5, 6, 7, 8, 9];
/// Of pretraining, and of the batch on which cosines are taken.
const SEED: u64 = 1;

/// What one arm came to with one seed.
#[derive(Serialize, Deserialize)]
struct Run {
    arm: Arm,
    seed: u64,
    accuracy: f64,
    cost: Cost,
    /// Of the filtered layers, the first layer first, after fine-tuning; only with the first seed.
    cosines: Vec<f64>,
}

struct Data {
    source: DataSource,
    train: Arc<dyn Dataset>,
    test: Arc<dyn Dataset>,
}

impl Data {
    fn open(folder: &Path) -> Result<Self, smidgen::data::DataError> {
        let source = DataSource::Cifar10(folder.join("cifar-10-batches-bin"));
        let train = source.open(Split::Train)?;
        let test = source.open(Split::Test)?;
        Ok(Self {
            source,
            train,
            test,
        })
    }
}

/// Trains on some classes and returns the accuracy on them, and the session.
fn train(
    graph: &Graph,
    weights: Option<&Weights>,
    data: &Data,
    classes: &[u32],
    (recipe, tested, seed): (&Recipe, usize, u64),
) -> Result<(f64, Session), Error> {
    let session_options = SessionOptions {
        batch: recipe.batch,
        training: Some(recipe.training()),
        budget: None,
    };
    let device = Device::open(&DeviceRequest::default())?;
    let mut session = Session::new(device, graph, &session_options, seed)?;
    if let Some(weights) = weights {
        session.load(weights)?;
    }
    let normalization = data.source.normalization();
    let pictures = Classes::of(&data.train, classes, recipe.pictures);
    let options = recipe.trainer(seed, normalization.clone());
    Trainer::new(&mut session, pictures, None, options)?.run(|_| ControlFlow::Continue(()))?;
    let pictures = Classes::of(&data.test, classes, tested);
    let test = Loader::evaluation(pictures, recipe.batch as usize, normalization)?;
    let found = evaluate(&mut session, &test, |_| ControlFlow::Continue(()))?;
    Ok((found.map_or(f64::NAN, |found| found.accuracy()), session))
}

/// The network trained on the first classes, read if it is kept. Its classifier is set to zero: what it says of classes that it never saw would
/// shake all that stands before it.
fn pretrained(size: &Size, data: &Data, kept: &Kept) -> Result<Weights, Error> {
    let graph = arm::network()?;
    let file = kept.pretrained();
    if !file.exists() {
        let how = (&size.pretraining, size.tested, SEED);
        let (accuracy, mut session) = train(&graph, None, data, &FIRST, how)?;
        let mut weights = session.weights()?;
        let accuracy = format!("{:.1} %", 100.0 * accuracy);
        (weights.metadata).insert("accuracy on classes 0 to 5".to_owned(), accuracy);
        weights.save(&file)?;
    }
    let mut weights = checkpoint::read_weights(&file)?;
    println!("pretrained: {:?}", weights.metadata);
    for parameter in graph.parameters().iter().rev().take(2) {
        if let Some(tensor) = weights.tensors.get_mut(&parameter.name) {
            tensor.values.fill(0.0);
        }
    }
    Ok(weights)
}

/// Cosines of the filtered layers on one batch, the first layer first.
fn cosines(
    graph: &Graph,
    weights: &Weights,
    data: &Data,
    recipe: &Recipe,
) -> Result<Vec<f64>, Error> {
    let pictures = Classes::of(&data.train, &SECOND, recipe.pictures);
    let normalization = data.source.normalization();
    let batch = recipe.batch as usize;
    let loader = Loader::training(pictures, batch, normalization, Augment::default(), SEED)?;
    let Some(batch) = loader.epoch(0, 0).next().transpose()? else {
        return Ok(Vec::new());
    };
    let probe = Probe {
        images: &batch.images,
        labels: &batch.labels,
        weights: Some(weights),
        seed: SEED,
        budget: None,
    };
    let found = closeness(&DeviceRequest::default(), graph, &probe)?;
    Ok(found.iter().map(|one| one.cosine).collect())
}

fn run(arm: Arm, seed: u64, weights: &Weights, data: &Data, size: &Size) -> Result<Run, Error> {
    let graph = arm.graph()?;
    let how = (&size.tuning, size.tested, seed);
    let (accuracy, mut session) = train(&graph, Some(weights), data, &SECOND, how)?;
    let cost = Cost::of(session.main_program());
    let tuned = session.weights()?;
    drop(session);
    let cosines = if arm.patch.is_some() && size.seeds.first() == Some(&seed) {
        cosines(&graph, &tuned, data, &size.tuning)?
    } else {
        Vec::new()
    };
    Ok(Run {
        arm,
        seed,
        accuracy,
        cost,
        cosines,
    })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (flags, folders): (Vec<String>, Vec<String>) = std::env::args()
        .skip(1)
        .partition(|argument| argument.starts_with("--"));
    let (size, otherwise) = if flags.iter().any(|flag| flag == "--quick") {
        (QUICK, "target/filtering-quick")
    } else {
        (WHOLE, "target/filtering")
    };
    let folder = std::env::var_os("SMIDGEN_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let data = match Data::open(&folder) {
        Ok(data) => data,
        Err(error) => {
            eprintln!("skipped: {error}");
            return Ok(());
        }
    };
    let folder = folders.first().map_or(otherwise, String::as_str);
    let kept = Kept::open(Path::new(folder), &size)?;
    let weights = pretrained(&size, &data, &kept)?;
    let mut runs = kept.runs()?;
    for &seed in size.seeds {
        for arm in Arm::every() {
            if runs.iter().any(|run| run.arm == arm && run.seed == seed) {
                continue;
            }
            let run = run(arm, seed, &weights, &data, &size)?;
            eprintln!("seed {seed}, {}: {:.1} %", arm.name(), 100.0 * run.accuracy);
            kept.add(&run)?;
            runs.push(run);
        }
    }
    println!("{}", serde_json::to_string_pretty(&size)?);
    println!(
        "\n{}\n{}",
        table::arms(&runs),
        table::equal_operations(&runs)
    );
    Ok(())
}
