//! Rehearsal from a memory on the device against its twin.

use smidgen_gpu::testing::{Guarded, device, relative_error};
use smidgen_ops::control::Control;
use smidgen_ops::loss::{Forgetting, IGNORED_LABEL, Metrics};
use smidgen_ops::rehearsal::{NO_SLOT, Rehearsal, RehearsalLoss, RehearsalRegions, class_range};
use smidgen_ops::{MapShape, OpsError};
use smidgen_reference::layout::{from_quads, to_quads, widen};
use smidgen_reference::numbers::{below, normal};
use smidgen_reference::rehearsal::{Part, rehearsal};

const MEAN: [f32; 4] = [0.485, 0.456, 0.406, 0.0];
const DEVIATION: [f32; 4] = [0.229, 0.224, 0.225, 1.0];

fn shape(samples: u32, classes: u32, slots: u32) -> Rehearsal {
    Rehearsal {
        images: MapShape::new(samples, 3, 5, 3),
        classes,
        slots,
        distillation: 0.1,
        repetition: 0.5,
        to_bytes: [DEVIATION, MEAN],
    }
}

/// Pictures in planes of quads whose numbers stand for these bytes, four a pixel.
fn pictures(bytes: &[u32]) -> Vec<f32> {
    let channel = |word: u32, at: usize| {
        let byte = (word >> (8 * at) & 0xff) as f32 / 255.0;
        (byte - MEAN[at]) / DEVIATION[at]
    };
    let quads = bytes.iter();
    quads
        .flat_map(|word| (0..4).map(|at| channel(*word, at)))
        .collect()
}

/// The loss of a batch of mixed parts, what its pictures become, and what the memory then holds.
fn check(samples: usize, classes: usize, slots: usize) {
    let (fresh, pixels) = (samples / 3, 15);
    let rehearsed = shape(samples as u32, classes as u32, slots as u32);
    let facts = device(false).facts();
    let logits = normal(1, samples * classes);
    let kept = normal(2, slots * classes);
    let mut labels = below(3, classes as u32, samples);
    let mut ranges = vec![class_range(0..classes as u16); samples];
    let mut places = vec![NO_SLOT; samples];
    let mut parts = Vec::new();
    for sample in 0..samples {
        let slot = sample % slots;
        if sample < fresh {
            // Two classes of the task, and no two samples take one slot.
            let first = labels[sample].min(classes as u32 - 2) as usize;
            labels[sample] = (first + sample % 2) as u32;
            ranges[sample] = class_range(first as u16..first as u16 + 2);
            places[sample] = if sample < slots { slot as u32 } else { NO_SLOT };
            parts.push(Part::New(labels[sample], first..first + 2));
        } else if sample % 5 == 4 {
            labels[sample] = IGNORED_LABEL;
            parts.push(Part::Ignored);
        } else {
            places[sample] = slot as u32;
            parts.push(if sample < 2 * fresh {
                Part::Distilled(widen(&kept[slot * classes..][..classes]))
            } else {
                Part::Repeated(labels[sample], 0..classes)
            });
        }
    }
    let examples: Vec<u32> = (0..samples as u32).collect();
    let words = [labels.as_slice(), &examples, &places, &ranges].concat();
    // Three channels; the fourth byte stands for padding.
    let own: Vec<u32> = below(4, 1 << 24, samples * pixels);
    let held: Vec<u32> = below(5, 1 << 24, slots * pixels);
    // Samples of the memory, with the classes of each in quads one after another.
    let kept_quads: Vec<f32> = (kept.chunks(classes))
        .flat_map(|row| to_quads(row, 1, classes, 1))
        .collect();

    let mut memory = Guarded::new();
    let quads = to_quads(&logits, samples, classes, 1);
    let regions = RehearsalRegions {
        words: memory.input(&words),
        images: memory.input(&pictures(&own)),
        kept_images: memory.input(&held),
        kept_logits: memory.input(&kept_quads),
    };
    let records = memory.input(&vec![0_u32; samples]);
    let loss = RehearsalLoss {
        logits: memory.input(&quads),
        gradient: memory.output(quads.len()),
        metrics: memory.output(8),
        workspace: memory.output(samples * 4),
        control: memory.input(&[Control::default()]),
        forgetting: Some(Forgetting {
            records,
            examples: fresh as u32,
        }),
    };
    let mut launches = vec![rehearsed.load(facts, &regions).unwrap()];
    launches.extend(rehearsed.loss(1.0, facts, &regions, &loss).unwrap());
    let outcome = memory.run(&launches).unwrap();

    let expected = rehearsal(&widen(&logits), &parts, classes, [0.1, 0.5]);
    let metrics = outcome.read::<Metrics>(loss.metrics)[0];
    assert_eq!(
        (metrics.count, metrics.top1, metrics.halted),
        (expected.count, expected.top1, 0)
    );
    assert!(relative_error(&[metrics.loss_sum], &[expected.sum]) < 1e-5);
    let gradient = from_quads(&outcome.read(loss.gradient), samples, classes, 1);
    let error = relative_error(&gradient, &expected.gradient);
    assert!(error < 1e-5, "gradient off by {error}");
    let right: u32 = outcome
        .read::<u32>(records)
        .iter()
        .map(|word| word & 1)
        .sum();
    assert_eq!(right, expected.top1);

    let images: Vec<f32> = outcome.read(regions.images);
    let (mut bytes, mut rows) = (held.clone(), kept_quads.clone());
    let padded = classes.next_multiple_of(4);
    for sample in 0..samples {
        let here = sample * pixels..(sample + 1) * pixels;
        let slot = places[sample] as usize;
        let replayed = sample >= fresh && places[sample] != NO_SLOT;
        let shown = if replayed {
            &held[slot * pixels..][..pixels]
        } else {
            &own[here.clone()]
        };
        let expected = widen(&pictures(shown));
        let actual = &images[here.start * 4..here.end * 4];
        assert!(relative_error(actual, &expected) < 1e-5, "picture {sample}");
        if sample < fresh && places[sample] != NO_SLOT {
            bytes[slot * pixels..][..pixels].copy_from_slice(&own[here]);
            let row = to_quads(&logits[sample * classes..][..classes], 1, classes, 1);
            rows[slot * padded..][..padded].copy_from_slice(&row);
        }
    }
    assert_eq!(outcome.read::<u32>(regions.kept_images), bytes);
    assert_eq!(outcome.read::<f32>(regions.kept_logits), rows);
}

#[test]
fn it_agrees_with_the_twin_and_the_memory_holds_what_it_took() {
    check(3, 2, 1);
    check(24, 10, 5);
    check(96, 10, 200);
    // More quads of classes than pixels.
    check(9, 67, 7);
}

#[test]
fn what_is_not_finite_or_no_class_of_the_task_halts() {
    let facts = device(false).facts();
    for (label, spoiled) in [(3_u32, f32::NAN), (9, 0.0)] {
        let rehearsed = shape(3, 10, 2);
        let mut logits = normal(1, 30);
        logits[3] += spoiled;
        let mut memory = Guarded::new();
        let labels = [label, IGNORED_LABEL, IGNORED_LABEL];
        let words = [labels, [0; 3], [NO_SLOT; 3], [class_range(2..4); 3]].concat();
        let regions = RehearsalRegions {
            words: memory.input(&words),
            images: memory.input(&vec![0.0_f32; 3 * 15 * 4]),
            kept_images: memory.input(&[0_u32; 30]),
            kept_logits: memory.input(&[0.0_f32; 24]),
        };
        let loss = RehearsalLoss {
            logits: memory.input(&to_quads(&logits, 3, 10, 1)),
            gradient: memory.output(36),
            metrics: memory.output(8),
            workspace: memory.output(12),
            control: memory.input(&[Control::default()]),
            forgetting: None,
        };
        let launches = rehearsed.loss(1.0, facts, &regions, &loss).unwrap();
        let outcome = memory.run(&launches).unwrap();
        let metrics = outcome.read::<Metrics>(loss.metrics)[0];
        assert!(metrics.loss_sum.is_nan() && metrics.halted == 1, "{label}");
    }
}

#[test]
fn nonsense_is_refused() {
    let mut memory = Guarded::new();
    let room = memory.output(4096);
    let regions = RehearsalRegions {
        words: room,
        images: room,
        kept_images: room,
        kept_logits: room,
    };
    let facts = device(false).facts();
    let mut wide = shape(3, 10, 4);
    wide.images.channels = 5;
    for wrong in [shape(4, 10, 4), shape(3, 0, 4), shape(3, 10, 0), wide] {
        let refused = wrong.load(facts, &regions);
        assert!(matches!(refused, Err(OpsError::Shape { .. })), "{wrong:?}");
    }
    assert!(matches!(
        shape(3, 10, 1000).load(facts, &regions),
        Err(OpsError::Region {
            region: "kept images",
            ..
        })
    ));
}
