//! Random networks as programs, and devices.

#[path = "graphs.rs"]
mod graphs;

pub(crate) use graphs::Random;
use smidgen_graph::{GraphError, Lowering, Mode, Optimizer, Program};
use smidgen_plan::Roofline;

/// A training step of a random network of three to six blocks.
pub(crate) fn program(random: &mut Random) -> Result<Program, GraphError> {
    let graph = graphs::graph(random)?;
    let mode = Mode::Train {
        optimizer: Optimizer::Sgd {
            momentum: 0.9,
            nesterov: false,
            weight_decay: 0.0,
        },
        label_smoothing: 0.0,
        clip_norm: None,
        keep_gradients: false,
        filter_state: smidgen_graph::FilterState::Tap,
        examples: smidgen_graph::ExampleMemory::default(),
        micro_batches: 1,
    };
    let batch = random.of(&[16, 32, 64]);
    graph.lower(&Lowering { batch, mode })
}

/// A device that is anything from short of arithmetic to short of bandwidth.
pub(crate) fn device(random: &mut Random) -> Roofline {
    Roofline {
        flops: random.of(&[5e10, 1e12, 1e13]),
        bytes: random.of(&[1e10, 1e11, 4e11]),
        host: 1e10,
        launch: random.of(&[0.0, 5e-6, 1e-4]),
    }
}
