//! The simulation of masks of single weights, which experiments compare with: it is training with the gradient times the mask, and with masks of
//! blocks it is what sparse layers do.

#[path = "../examples/common/mod.rs"]
mod common;
#[allow(dead_code)]
#[path = "../examples/unstructured/mod.rs"]
mod unstructured;

use common::{Random, network, session};
use smidgen::{Graph, MASK_SUFFIX, Session, Sparsity, StepOptions, Training};
use std::collections::BTreeMap;
use unstructured::Masked;

const BATCH: u32 = 4;
const WIDTHS: [u32; 5] = [4, 8, 8, 12, 8];
const STEPS: u64 = 5;
const LEARNING_RATE: f32 = 0.05;
/// Those of the default optimiser.
const MOMENTUM: f64 = 0.9;
const WEIGHT_DECAY: f64 = 1e-4;

/// Made-up pictures in planes of quads, and their classes.
fn batch(step: u64) -> (Vec<f32>, Vec<u32>) {
    let mut random = Random(step + 1);
    let mut number = || (random.next() % 2001) as f32 / 1000.0 - 1.0;
    let images = (0..BATCH * 32 * 32 * 4).map(|at| if at % 4 == 3 { 0.0 } else { number() });
    (
        images.collect(),
        (0..BATCH).map(|at| (at + step as u32) % 10).collect(),
    )
}

fn options(step: u64, learning_rate: f32) -> StepOptions {
    StepOptions {
        step,
        learning_rate,
        seed: 0,
    }
}

/// One step with masks kept, as the experiment takes it.
fn simulate(session: &mut Session, layers: &[Masked], step: u64) {
    let (images, labels) = batch(step);
    session
        .train_step(&images, &labels, &options(step, LEARNING_RATE))
        .unwrap();
    session.metrics().unwrap();
    for layer in layers {
        layer.apply(session).unwrap();
    }
}

fn dense() -> Graph {
    network(WIDTHS).unwrap()
}

fn sparse() -> Graph {
    let mut graph = dense();
    graph.sparsify(&Sparsity::uniform(0.4)).unwrap();
    graph
}

/// Compares all parameters, beside the largest of each. What is trained on few pictures makes differences of rounding larger with every step; a
/// gradient that a mask let through would be more than ten times as large from the first.
fn compare(step: u64, own: &mut Session, expected: impl Fn(&str) -> Vec<f64>) {
    let weights = own.weights().unwrap();
    for parameter in dense().parameters() {
        let (own, expected) = (
            &weights.tensors[&parameter.name].values,
            expected(&parameter.name),
        );
        let most = expected
            .iter()
            .fold(0.0_f64, |most, value| most.max(value.abs()));
        for (at, (own, expected)) in own.iter().zip(&expected).enumerate() {
            assert!(
                (f64::from(*own) - expected).abs() <= 1e-3 * most.max(0.01),
                "step {step}, {}, element {at}: {own} instead of {expected}",
                parameter.name
            );
        }
    }
}

#[test]
fn the_simulation_is_training_with_the_gradient_times_the_mask() {
    let graph = dense();
    let mut random = Random(7);
    let mut simulated = session(&graph, BATCH, Training::default(), 1).unwrap();
    let layers: Vec<Masked> = (sparse().sparse_layers().into_iter())
        .map(|layer| {
            let count = layer.attributes.weight_elements() as usize;
            let mask = (0..count)
                .map(|_| random.next().is_multiple_of(5))
                .collect();
            Masked {
                name: layer.name,
                mask,
            }
        })
        .collect();
    for layer in &layers {
        layer.apply(&mut simulated).unwrap();
    }
    // Its twin computes gradients on the device, and updates on the host.
    let training = Training {
        keep_gradients: true,
        ..Training::default()
    };
    let mut twin = session(&graph, BATCH, training, 1).unwrap();
    let mut weights: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for parameter in graph.parameters() {
        let values = simulated.read(&parameter.name).unwrap();
        weights.insert(
            parameter.name.clone(),
            values.into_iter().map(f64::from).collect(),
        );
    }
    let mut momenta: BTreeMap<String, Vec<f64>> = (weights.iter())
        .map(|(name, values)| (name.clone(), vec![0.0; values.len()]))
        .collect();
    for step in 0..STEPS {
        simulate(&mut simulated, &layers, step);
        for (name, values) in &weights {
            let values: Vec<f32> = values.iter().map(|value| *value as f32).collect();
            twin.write(name, &values).unwrap();
        }
        let (images, labels) = batch(step);
        twin.train_step(&images, &labels, &options(step, 0.0))
            .unwrap();
        twin.metrics().unwrap();
        for (name, values) in &mut weights {
            let gradient = twin.read(&format!("gradient of {name}")).unwrap();
            let mask = layers.iter().find(|layer| layer.name == *name);
            let momentum = momenta.get_mut(name).unwrap();
            for at in 0..values.len() {
                let live = mask.is_none_or(|layer| layer.mask[at]);
                let slope = f64::from(gradient[at]) + WEIGHT_DECAY * values[at];
                momentum[at] = MOMENTUM * momentum[at] + slope * f64::from(u8::from(live));
                values[at] -= f64::from(LEARNING_RATE) * momentum[at];
            }
        }
        compare(step, &mut simulated, |name| weights[name].clone());
    }
}

#[test]
fn with_masks_of_blocks_the_simulation_is_what_sparse_layers_do() {
    let graph = sparse();
    let mut real = session(&graph, BATCH, Training::default(), 2).unwrap();
    let start = real.weights().unwrap();
    let layers: Vec<Masked> = (graph.sparse_layers().into_iter())
        .map(|layer| {
            let mask = &start.tensors[&format!("{}{MASK_SUFFIX}", layer.name)].values;
            let mask = mask.iter().map(|on| *on == 1.0).collect();
            Masked {
                name: layer.name,
                mask,
            }
        })
        .collect();
    let mut simulated = session(&dense(), BATCH, Training::default(), 3).unwrap();
    simulated.load(&start).unwrap();
    for step in 0..STEPS {
        simulate(&mut simulated, &layers, step);
        let (images, labels) = batch(step);
        real.train_step(&images, &labels, &options(step, LEARNING_RATE))
            .unwrap();
        real.metrics().unwrap();
        let expected = simulated.weights().unwrap();
        compare(step, &mut real, |name| {
            let values = expected.tensors[name].values.iter();
            values.map(|value| f64::from(*value)).collect()
        });
    }
}
