//! Operators over the whole batch, of maps that stand in slabs.

mod maps;

use maps::{assert_close, place_vector, read_vector, shape, vector_room};
use smidgen_gpu::testing::{Guarded, device};
use smidgen_gpu::{DeviceKind, Region, normalisation_bytes};
use smidgen_ops::batch_norm::{self, StatisticsKind};
use smidgen_ops::control::Control;
use smidgen_ops::dropout::{self, Dropout};
use smidgen_ops::loss::{self, CrossEntropy, CrossEntropyRegions, LogitSlab, Metrics};
use smidgen_ops::{Activation, MapShape};
use smidgen_reference::batch_norm as reference;
use smidgen_reference::elementwise::MapCase;
use smidgen_reference::layout::{from_quads, to_quads, widen};
use smidgen_reference::numbers::{below, normal};

/// The images of two or three slabs, the last the smallest.
fn slabs(batch: usize) -> Vec<usize> {
    let images = batch.div_ceil(if batch > 4 { 3 } else { 2 });
    let firsts = (0..batch).step_by(images);
    firsts.map(|first| images.min(batch - first)).collect()
}

/// A map for so many images.
fn of_images(map: &MapCase, images: usize) -> MapShape {
    MapShape {
        batch: images as u32,
        ..shape(map)
    }
}

/// Places each slab of a map in NCHW.
fn place(memory: &mut Guarded, map: &MapCase, nchw: &[f32]) -> Vec<Region> {
    let (mut left, mut placed) = (nchw, Vec::new());
    for images in slabs(map.batch) {
        let (slab, rest) = left.split_at(images * map.channels * map.image_pixels());
        placed.push(memory.input(&to_quads(slab, images, map.channels, map.image_pixels())));
        left = rest;
    }
    placed
}

#[test]
fn a_normalisation_has_the_statistics_and_the_gradients_of_the_whole_batch() {
    let mut facts = device(false).facts().clone();
    for kind in [DeviceKind::Software, DeviceKind::Discrete] {
        facts.kind = kind;
        for map in reference::cases().iter().filter(|map| map.batch > 1) {
            let inputs: Vec<f32> = normal(1, map.count())
                .iter()
                .map(|x| 2.0 * x + 1.0)
                .collect();
            let gradients = normal(2, map.count());
            let [gamma, beta, mean] = [3, 4, 5].map(|seed| normal(seed, map.channels));
            let variance: Vec<f32> = mean.iter().map(|x| x * x + 0.5).collect();
            let mut memory = Guarded::new();
            let shapes: Vec<_> = (slabs(map.batch).into_iter())
                .map(|images| of_images(map, images))
                .collect();
            let input = place(&mut memory, map, &inputs);
            let output_gradient = place(&mut memory, map, &gradients);
            let running = [&mean, &variance].map(|values| place_vector(&mut memory, values));
            let [gamma_at, beta_at] =
                [&gamma, &beta].map(|values| place_vector(&mut memory, values));
            let bytes = normalisation_bytes(map.channels as u32);
            let normalisation = memory.output(bytes as usize / 4);
            let list = |shape: &MapShape| batch_norm::statistics_workspace(shape, &facts);
            let stride = list(&shapes[0]).next_multiple_of(256);
            let lists = batch_norm::Lists {
                count: shapes.len() as u32,
                stride,
            };
            let moments: Vec<f32> = vec![f32::NAN; (u64::from(lists.count) * stride / 4) as usize];
            let moments = memory.input(&moments);
            let mut launches = Vec::new();
            for (at, (shape, input)) in shapes.iter().zip(&input).enumerate() {
                let own = Region {
                    offset: moments.offset + at as u64 * stride,
                    size: list(shape),
                    ..moments
                };
                launches.push(batch_norm::moments(shape, &facts, *input, own).unwrap());
            }
            let regions = batch_norm::Statistics {
                input: moments,
                running_mean: running[0],
                running_variance: running[1],
                gamma: gamma_at,
                beta: beta_at,
                normalisation,
                epsilon: 1e-5,
                momentum: 0.1,
            };
            let whole = shape(map);
            launches.push(batch_norm::merge_slabs(&whole, &facts, &regions, lists).unwrap());
            let bytes = batch_norm::backward_in_slabs_workspace(&shapes, &facts);
            let workspace = memory.output(bytes as usize / 4);
            let sums = [0; 2].map(|_| vector_room(&mut memory, map.channels));
            let pairs = input.iter().zip(&output_gradient).zip(&shapes);
            let backward: Vec<_> = pairs
                .map(|((input, output_gradient), shape)| {
                    let regions = batch_norm::Backward {
                        input: *input,
                        normalisation,
                        output_gradient: *output_gradient,
                        workspace,
                        gamma_gradient: sums[0],
                        beta_gradient: sums[1],
                        input_gradient: memory.output(shape.bytes() as usize / 4),
                    };
                    (*shape, regions)
                })
                .collect();
            let (relu, way) = (Activation::Relu, StatisticsKind::Batch);
            launches.extend(batch_norm::backward_in_slabs(&backward, &facts, relu, way).unwrap());
            let outcome = memory.run(&launches).unwrap();

            let layer = reference::Layer {
                gamma: widen(&gamma),
                beta: widen(&beta),
                epsilon: f64::from(1e-5_f32),
                activation: maps::twin(relu),
            };
            let (input, gradients) = (widen(&inputs), widen(&gradients));
            let of_batch = reference::statistics(map, &input);
            let before = reference::Statistics {
                mean: widen(&mean),
                variance: widen(&variance),
            };
            let after = reference::running(map, &of_batch, &before, f64::from(0.1_f32));
            let expected = reference::backward(map, &layer, &of_batch, true, &input, &gradients);
            let read = |region| read_vector(&outcome, map.channels, region);
            let mut input_gradient = Vec::new();
            for (shape, regions) in &backward {
                let quads: Vec<f32> = outcome.read(regions.input_gradient);
                let images = shape.batch as usize;
                input_gradient.extend(from_quads(&quads, images, map.channels, map.image_pixels()));
            }
            for (what, actual, expected) in [
                ("running mean", read(running[0]), &after.mean),
                ("running variance", read(running[1]), &after.variance),
                ("gamma gradient", read(sums[0]), &expected.gamma),
                ("beta gradient", read(sums[1]), &expected.beta),
                ("input gradient", input_gradient, &expected.input),
            ] {
                assert_close(&format!("{} {what}", map.name), &actual, expected, 1e-5);
            }
        }
    }
}

#[test]
fn a_loss_in_slabs_is_that_of_the_batch_to_the_bit() {
    let facts = device(false).facts();
    let (samples, classes) = (23_usize, 11_usize);
    let (logits, mut labels) = (
        normal(1, samples * classes),
        below(2, classes as u32, samples),
    );
    labels[3] = loss::IGNORED_LABEL;
    labels.extend(0..samples as u32);
    let map = MapCase {
        name: "logits",
        batch: samples,
        channels: classes,
        height: 1,
        width: 1,
    };
    let run = |slabs: &[usize]| {
        let mut memory = Guarded::new();
        let mut left = logits.as_slice();
        let slabs: Vec<_> = (slabs.iter())
            .map(|count| {
                let (own, rest) = left.split_at(count * classes);
                left = rest;
                LogitSlab {
                    samples: *count as u32,
                    logits: memory.input(&to_quads(own, *count, classes, 1)),
                    gradient: Some(memory.output(of_images(&map, *count).bytes() as usize / 4)),
                }
            })
            .collect();
        let shape = CrossEntropy {
            samples: samples as u32,
            classes: classes as u32,
            label_smoothing: 0.1,
            scale: 1.0,
        };
        let records = memory.input(&vec![0_u32; samples]);
        let regions = CrossEntropyRegions {
            logits: slabs[0].logits,
            labels: memory.input(&labels),
            gradient: None,
            metrics: memory.output((Metrics::BYTES / 4) as usize),
            workspace: memory.output((loss::workspace_bytes(&shape) / 4) as usize),
            control: memory.input(&[Control::default()]),
            forgetting: Some(loss::Forgetting {
                records,
                examples: samples as u32,
            }),
        };
        let launches = loss::cross_entropy_in_slabs(&shape, facts, &regions, &slabs).unwrap();
        let outcome = memory.run(&launches).unwrap();
        let gradients = slabs.iter().flat_map(|slab| {
            let quads: Vec<f32> = outcome.read(slab.gradient.unwrap());
            from_quads(&quads, slab.samples as usize, classes, 1)
        });
        let gradients: Vec<u32> = gradients.map(f32::to_bits).collect();
        (
            gradients,
            outcome.read::<u32>(regions.metrics),
            outcome.read::<u32>(records),
        )
    };
    assert_eq!(run(&[8, 8, 7]), run(&[samples]));
    let shape = CrossEntropy {
        samples: 3,
        classes: 1,
        label_smoothing: 0.0,
        scale: 1.0,
    };
    let nowhere = Region::whole(0, 256);
    let regions = CrossEntropyRegions {
        logits: nowhere,
        labels: nowhere,
        gradient: None,
        metrics: nowhere,
        workspace: nowhere,
        control: nowhere,
        forgetting: None,
    };
    let error = loss::cross_entropy_in_slabs(&shape, facts, &regions, &[]).unwrap_err();
    assert!(
        error.to_string().contains("0 samples, the batch 3"),
        "{error}"
    );
}

#[test]
fn a_slab_has_the_mask_that_the_whole_map_has_there() {
    for map in reference::cases().iter().filter(|map| map.batch > 1) {
        let values = normal(1, map.count());
        let layer = Dropout {
            rate: 0.5,
            layer: 3,
        };
        let run = |counts: &[usize]| {
            let mut memory = Guarded::new();
            let control = memory.input(&[Control::default()]);
            let (mut launches, mut outputs, mut first) = (Vec::new(), Vec::new(), 0);
            for count in counts {
                let size = map.channels * map.image_pixels();
                let own = &values[first * size..][..count * size];
                let input = memory.input(&to_quads(own, *count, map.channels, map.image_pixels()));
                let shape = of_images(map, *count);
                let output = memory.output(shape.bytes() as usize / 4);
                let regions = dropout::Regions {
                    control,
                    input: input.into(),
                    output,
                };
                let place = (first as u32, map.batch as u32);
                launches.extend(dropout::dropout_part(&shape, place, &layer, &regions).unwrap());
                outputs.push((*count, output));
                first += count;
            }
            let outcome = memory.run(&launches).unwrap();
            let read = outputs.into_iter().flat_map(|(count, output)| {
                let quads: Vec<f32> = outcome.read(output);
                from_quads(&quads, count, map.channels, map.image_pixels())
            });
            read.collect::<Vec<f32>>()
        };
        assert_eq!(run(&slabs(map.batch)), run(&[map.batch]), "{}", map.name);
    }
}
