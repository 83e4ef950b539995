//! Cross entropy on the device against its twin and PyTorch.

use smidgen_gpu::testing::{Guarded, device, relative_error};
use smidgen_ops::OpsError;
use smidgen_ops::control::Control;
use smidgen_ops::loss::{
    CrossEntropy, CrossEntropyRegions, ExampleRecord, Forgetting, IGNORED_LABEL, Metrics,
    cross_entropy, workspace_bytes,
};
use smidgen_ops::optimizer::{SgdOptions, SgdRegions, sgd};
use smidgen_reference::golden::Golden;
use smidgen_reference::layout::{from_quads, to_quads, widen};
use smidgen_reference::loss::{self as twin, LossCase};
use smidgen_reference::numbers::{below, normal};

/// Metrics, gradient (if wanted) and the halt of one batch; logits are `[samples][classes]`.
fn run(
    shape: &CrossEntropy,
    logits: &[f32],
    labels: &[u32],
    train: bool,
) -> (Metrics, Option<Vec<f32>>, u32) {
    run_as(Control::default(), shape, logits, labels, train)
}

fn run_as(
    control: Control,
    shape: &CrossEntropy,
    logits: &[f32],
    labels: &[u32],
    train: bool,
) -> (Metrics, Option<Vec<f32>>, u32) {
    let (samples, classes) = (shape.samples as usize, shape.classes as usize);
    let mut memory = Guarded::new();
    let quads = to_quads(logits, samples, classes, 1);
    let gradient = train.then(|| memory.output(quads.len()));
    let regions = CrossEntropyRegions {
        logits: memory.input(&quads),
        labels: memory.input(labels),
        gradient,
        metrics: memory.output(8),
        workspace: memory.output(workspace_bytes(shape) as usize / 4),
        control: memory.input(&[control]),
        forgetting: None,
    };
    let launches = cross_entropy(shape, device(false).facts(), &regions).unwrap();
    let outcome = memory.run(&launches).unwrap();
    let metrics: Vec<Metrics> = outcome.read(regions.metrics);
    let control: Vec<Control> = outcome.read(regions.control);
    assert_eq!(metrics[0].halted, control[0].halted);
    assert_eq!(control[0].gradient_scale, 1.0);
    let gradient = gradient.map(|region| from_quads(&outcome.read(region), samples, classes, 1));
    (metrics[0], gradient, control[0].halted)
}

fn plain(samples: usize, classes: usize) -> CrossEntropy {
    CrossEntropy {
        samples: samples as u32,
        classes: classes as u32,
        label_smoothing: 0.0,
        scale: 1.0,
    }
}

fn batch(case: &LossCase) -> (Vec<f32>, Vec<u32>) {
    let logits = normal(1, case.samples * case.classes)
        .iter()
        .map(|logit| logit * case.magnitude)
        .collect();
    let mut labels = below(2, case.classes as u32, case.samples);
    if case.ignore_every > 0 {
        for label in labels.iter_mut().step_by(case.ignore_every) {
            *label = IGNORED_LABEL;
        }
    }
    (logits, labels)
}

#[test]
fn every_case_agrees_with_the_twin() {
    for case in twin::cases() {
        let (logits, labels) = batch(&case);
        let smoothing = case.label_smoothing as f32;
        let shape = CrossEntropy {
            label_smoothing: smoothing,
            scale: 3.0,
            ..plain(case.samples, case.classes)
        };
        let (metrics, gradient, halted) = run(&shape, &logits, &labels, true);
        let expected =
            twin::cross_entropy(&widen(&logits), &labels, case.classes, f64::from(smoothing));
        let counted = (metrics.count, metrics.top1, metrics.top5);
        let name = case.name;
        assert_eq!(
            counted,
            (expected.count, expected.top1, expected.top5),
            "{name}"
        );
        assert_eq!(halted, 0, "{name}");
        let error = relative_error(&[metrics.loss_sum], &[expected.sum]);
        assert!(error < 1e-5, "{name}: loss off by {error}");
        let scaled: Vec<f64> = expected.gradient.iter().map(|value| value * 3.0).collect();
        let error = relative_error(&gradient.unwrap(), &scaled);
        assert!(error < 1e-5, "{name}: gradient off by {error}");
        let (evaluated, none, _) = run(&shape, &logits, &labels, false);
        assert_eq!((evaluated, none), (metrics, None), "{name}");
    }
}

#[test]
fn a_part_of_a_batch_has_its_part_of_the_mean() {
    let (logits, labels) = (normal(1, 60), [3, IGNORED_LABEL, 0, 1, 9, 9]);
    let (_, whole, _) = run(&plain(6, 10), &logits, &labels, true);
    let whole = whole.unwrap();
    // Of the two parts one has two labels that count, the other three.
    let control = Control {
        samples: 5,
        ..Control::default()
    };
    for (part, counted) in [(0, 2), (1, 3)] {
        let (own, labels) = (&logits[part * 30..][..30], &labels[part * 3..][..3]);
        let (metrics, gradient, _) = run_as(control, &plain(3, 10), own, labels, true);
        assert_eq!(metrics.count, counted);
        let error = relative_error(&gradient.unwrap(), &widen(&whole[part * 30..][..30]));
        assert!(error < 1e-6, "{error}");
    }
}

#[test]
fn ignored_samples_have_no_gradient() {
    let labels = [IGNORED_LABEL, 2, IGNORED_LABEL];
    // What an ignored sample holds does not matter.
    let mut logits = normal(1, 15);
    logits[3] = f32::NAN;
    let (metrics, gradient, halted) = run(&plain(3, 5), &logits, &labels, true);
    let gradient = gradient.unwrap();
    assert_eq!((metrics.count, halted), (1, 0));
    assert!(gradient[..5].iter().all(|value| *value == 0.0));
    assert!(gradient[10..].iter().all(|value| *value == 0.0));
    assert!(gradient[7] < 0.0);
}

#[test]
fn among_equal_logits_the_lower_index_wins() {
    let (metrics, ..) = run(&plain(3, 9), &[0.5; 27], &[0, 4, 5], false);
    assert_eq!((metrics.top1, metrics.top5), (1, 2));
}

#[test]
fn what_is_not_finite_halts() {
    let shape = plain(19, 10);
    let labels = below(2, 10, 19);
    for (at, value) in [
        (7, f32::NAN),
        (188, f32::INFINITY),
        (51, f32::NEG_INFINITY),
        (0, -f32::NAN),
    ] {
        let mut logits = normal(1, 190);
        logits[at] = value;
        let (metrics, _, halted) = run(&shape, &logits, &labels, true);
        assert_eq!(halted, 1, "{value} at {at}");
        assert!(metrics.loss_sum.is_nan());
        assert_eq!(metrics.count, 19);
    }
}

#[test]
fn a_bad_batch_leaves_the_parameters_as_they_were_and_a_good_one_does_not_resume() {
    let shape = plain(4, 4);
    let facts = device(false).facts();
    let parameters = normal(5, 16);
    for (spoiled, halted_before) in [(true, 0), (false, 1), (false, 0)] {
        let mut logits = normal(1, 16);
        if spoiled {
            logits[5] = f32::NAN;
        }
        let control = Control {
            learning_rate: 0.1,
            halted: halted_before,
            ..Control::default()
        };
        let mut memory = Guarded::new();
        let gradient = memory.output(16);
        let regions = CrossEntropyRegions {
            logits: memory.input(&to_quads(&logits, 4, 4, 1)),
            labels: memory.input(&[0u32, 1, 2, 3]),
            gradient: Some(gradient),
            metrics: memory.output(8),
            workspace: memory.output(workspace_bytes(&shape) as usize / 4),
            control: memory.input(&[control]),
            forgetting: None,
        };
        let sgd_regions = SgdRegions {
            parameter: memory.input(&parameters),
            gradient,
            momentum: None,
            control: regions.control,
        };
        let mut launches = cross_entropy(&shape, facts, &regions).unwrap();
        launches.push(sgd(&SgdOptions::default(), facts, &sgd_regions, 16).unwrap());
        let outcome = memory.run(&launches).unwrap();
        let expect_halt = u32::from(spoiled || halted_before == 1);
        let metrics: Vec<Metrics> = outcome.read(regions.metrics);
        assert_eq!(metrics[0].halted, expect_halt);
        assert_eq!(metrics[0].loss_sum.is_nan(), spoiled);
        let after: Vec<f32> = outcome.read(sgd_regions.parameter);
        assert_eq!(after == parameters, expect_halt == 1);
    }
}

#[test]
fn a_label_that_is_no_class_halts_and_reads_nothing_outside() {
    let (metrics, _, halted) = run(&plain(2, 3), &normal(1, 6), &[1, 3], true);
    assert_eq!(halted, 1);
    assert!(metrics.loss_sum.is_nan());
}

#[test]
fn forgetting_is_counted_as_the_twin_counts_it() {
    let (samples, classes, examples) = (21, 3, 40_u32);
    let shape = plain(samples, classes);
    let facts = device(false).facts();
    // Counts at their end, and an example that was removed.
    let mut expected: Vec<u32> = (0..examples)
        .map(|example| match example {
            0..8 => 0,
            8 => u32::MAX,
            9 => 0xffff_0000,
            other => other * 0x0009_0001,
        })
        .collect();
    for round in 0..4 {
        let logits = normal(round, samples * classes);
        let mut labels = below(round + 9, classes as u32, samples);
        labels[5] = IGNORED_LABEL;
        // Every example once at most (41 is a prime); one number is beyond the records.
        let mut numbers: Vec<u32> = (0..samples as u32).map(|at| at * 13 % 41).collect();
        numbers[7] = u32::MAX;
        let words = [labels.as_slice(), &numbers].concat();
        let mut memory = Guarded::new();
        let records = memory.input(&expected);
        let regions = CrossEntropyRegions {
            logits: memory.input(&to_quads(&logits, samples, classes, 1)),
            labels: memory.input(&words),
            gradient: None,
            metrics: memory.output(8),
            workspace: memory.output(workspace_bytes(&shape) as usize / 4),
            control: memory.input(&[Control::default()]),
            forgetting: Some(Forgetting { records, examples }),
        };
        let outcome = memory
            .run(&cross_entropy(&shape, facts, &regions).unwrap())
            .unwrap();
        for (sample, number) in numbers.iter().enumerate() {
            let row = &widen(&logits)[sample * classes..][..classes];
            let one = twin::cross_entropy(row, &labels[sample..=sample], classes, 0.0);
            if let (true, Some(record)) = (
                labels[sample] != IGNORED_LABEL,
                expected.get_mut(*number as usize),
            ) {
                *record = twin::shown(*record, one.top1 == 1);
            }
        }
        assert_eq!(outcome.read::<u32>(records), expected, "round {round}");
    }
    let records: Vec<ExampleRecord> = expected.into_iter().map(ExampleRecord).collect();
    assert!(records[8].is_removed() && records[8].forgettings() == 8191);
    assert_eq!(records[8].attempts(), 65535);
    assert!(records[..8].iter().any(|record| record.forgettings() > 0));
    assert!(records[..8].iter().any(|record| record.attempts() > 0));
}

#[test]
fn it_agrees_with_pytorch() {
    let Some(golden) = Golden::open("operators.safetensors") else {
        return;
    };
    for (name, label_smoothing) in [("cross_entropy", 0.0), ("cross_entropy_ls", 0.1)] {
        let tensor = |part: &str| golden.tensor(&format!("{name}.{part}")).unwrap();
        let (sizes, x) = tensor("x");
        let labels: Vec<u32> = golden
            .integers(&format!("{name}.target"))
            .unwrap()
            .iter()
            .map(|label| *label as u32)
            .collect();
        let shape = CrossEntropy {
            label_smoothing,
            ..plain(sizes[0], sizes[1])
        };
        let (metrics, gradient, _) = run(&shape, &x, &labels, true);
        let mean = metrics.loss_sum / metrics.count as f32;
        assert!(relative_error(&[mean], &widen(&tensor("loss").1)) < 1e-5);
        assert!(relative_error(&gradient.unwrap(), &widen(&tensor("dx").1)) < 1e-5);
    }
}

#[test]
fn nonsense_is_refused() {
    let mut memory = Guarded::new();
    let room = memory.output(64);
    let regions = CrossEntropyRegions {
        logits: room,
        labels: room,
        gradient: Some(room),
        metrics: room,
        workspace: room,
        control: room,
        forgetting: None,
    };
    let facts = device(false).facts();
    for shape in [
        plain(0, 10),
        plain(10, 0),
        CrossEntropy {
            label_smoothing: 1.0,
            ..plain(1, 1)
        },
        CrossEntropy {
            label_smoothing: f32::NAN,
            ..plain(1, 1)
        },
    ] {
        assert!(matches!(
            cross_entropy(&shape, facts, &regions),
            Err(OpsError::Shape { .. })
        ));
    }
    assert!(matches!(
        cross_entropy(&plain(17, 4), facts, &regions),
        Err(OpsError::Region {
            region: "logits",
            given: 256,
            needed: 272,
            ..
        })
    ));
}
