//! Every operator of `smidgen-ops` and `smidgen-stash` over the tables of its tests, those on maps also over one of a real network; throughput in bytes bound.

mod maps;
mod normalisation;
mod stash;
mod update;

use smidgen_benches::{Memory, device, large_map};
use smidgen_gpu::{DeviceFacts, Region};
use smidgen_ops::control::Control;
use smidgen_reference::elementwise::MapCase;

fn facts() -> &'static DeviceFacts {
    device().facts()
}

/// Cases and one of the size of real networks.
fn with_large(mut maps: Vec<MapCase>) -> Vec<MapCase> {
    maps.push(large_map());
    maps
}

fn control(memory: &mut Memory) -> Region {
    // A learning rate so small that no number grows however often a step is repeated.
    let control = Control {
        learning_rate: 1e-9,
        ..Control::default()
    };
    memory.words(smidgen_gpu::bytemuck::cast_slice(&[control]))
}

fn main() {
    let mut criterion = smidgen_benches::criterion(0.1);
    for operator in [
        normalisation::batch_norms,
        normalisation::layer_norms,
        normalisation::softmaxes,
        normalisation::attentions,
        maps::activations,
        maps::plain,
        maps::pools,
        maps::shortcuts,
        maps::concats,
        stash::codecs,
        stash::weight_gradients,
        update::losses,
        update::optimizers,
    ] {
        operator(&mut criterion);
    }
    criterion.final_summary();
}
