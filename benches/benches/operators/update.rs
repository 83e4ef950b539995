//! From the loss to the new parameters.

use crate::{control, facts};
use criterion::Criterion;
use smidgen_benches::{Memory, measure_bytes};
use smidgen_ops::optimizer::AdamDecay;
use smidgen_ops::{MapShape, clip, loss, optimizer};
use smidgen_reference as reference;
use smidgen_reference::numbers::below;
use smidgen_reference::optimizer::Rule;

pub(crate) fn losses(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cross entropy");
    for case in reference::loss::cases() {
        let (samples, classes) = (case.samples as u32, case.classes as u32);
        let shape = loss::CrossEntropy {
            samples,
            classes,
            label_smoothing: case.label_smoothing as f32,
            scale: 1.0,
        };
        let logits = MapShape::new(samples, classes, 1, 1).bytes();
        let mut labels = below(1, classes, case.samples);
        if case.ignore_every > 0 {
            let ignored = labels.iter_mut().step_by(case.ignore_every);
            ignored.for_each(|label| *label = loss::IGNORED_LABEL);
        }
        let mut memory = Memory::new();
        let regions = loss::CrossEntropyRegions {
            logits: memory.values(logits),
            labels: memory.words(&labels),
            gradient: Some(memory.values(logits)),
            metrics: memory.values(loss::Metrics::BYTES),
            workspace: memory.values(loss::workspace_bytes(&shape)),
            forgetting: None,
            control: control(&mut memory),
        };
        let launches = loss::cross_entropy(&shape, facts(), &regions);
        measure_bytes(&mut group, "with gradient", case.name, &memory, launches);
    }
}

/// Over the largest count of the tests, and over the parameters of ResNet-20.
pub(crate) fn optimizers(criterion: &mut Criterion) {
    const COUNTS: [u32; 2] = [
        reference::optimizer::COUNTS[reference::optimizer::COUNTS.len() - 1] as u32,
        272_474,
    ];
    let mut group = criterion.benchmark_group("optimizer");
    for count in COUNTS {
        let bytes = u64::from(count).next_multiple_of(4) * 4;
        let mut memory = Memory::new();
        let control = control(&mut memory);
        let [parameter, gradient, first] = [0; 3].map(|_| memory.values(bytes));
        let square = memory.ones(bytes);
        let name = count.to_string();
        for case in reference::optimizer::cases() {
            let launch = match case.rule {
                Rule::Sgd {
                    momentum,
                    nesterov,
                    weight_decay,
                } => {
                    let options = optimizer::SgdOptions {
                        momentum: momentum as f32,
                        nesterov,
                        weight_decay: weight_decay as f32,
                    };
                    let regions = optimizer::SgdRegions {
                        parameter,
                        gradient,
                        momentum: (momentum > 0.0).then_some(first),
                        control,
                    };
                    optimizer::sgd(&options, facts(), &regions, count)
                }
                Rule::Adam {
                    betas,
                    epsilon,
                    weight_decay,
                    decoupled,
                } => {
                    let options = optimizer::AdamOptions {
                        betas,
                        epsilon: epsilon as f32,
                        weight_decay: weight_decay as f32,
                        decay: if decoupled {
                            AdamDecay::Decoupled
                        } else {
                            AdamDecay::Gradient
                        },
                    };
                    let regions = optimizer::AdamRegions {
                        parameter,
                        gradient,
                        mean: first,
                        square,
                        control,
                    };
                    optimizer::adam(&options, facts(), &regions, count)
                }
            };
            measure_bytes(&mut group, case.name, &name, &memory, launch);
        }
        let slots = memory.values(u64::from(clip::slots(count)) * 4);
        let launch = clip::sums_of_squares(&[(gradient, count)], facts(), slots);
        measure_bytes(&mut group, "sum of squares", &name, &memory, launch);
        let regions = clip::ClipRegions {
            slots,
            norm: memory.values(4),
            control,
            loss_scale: None,
        };
        let launch = clip::clip(1.0, clip::slots(count), facts(), &regions);
        measure_bytes(&mut group, "clip", &name, &memory, launch);
    }
}
