//! Executes programs in double precision with plain loops: maps as NCHW, weights as PyTorch has them.

mod loops;

use loops::{apply, channel_sums, each, kept, shortcut, slope, strided, taps, windows};
use smidgen_graph::forms::Code;
use smidgen_graph::{
    ConvolutionAttributes, HeldSlope, Layout, MapShape, Operation, OperationKind as Kind, Program,
    Role, Source, ValueId,
};
use smidgen_reference::convolution::Case;
use smidgen_reference::gradient_filter::{self, FilterCase};

fn filter_case(attributes: ConvolutionAttributes, shape: MapShape, patch: u32) -> FilterCase {
    let pair = |sizes: [u32; 2]| sizes.map(|size| size as usize);
    let convolution = Case {
        name: "filtered",
        batch: shape.batch as usize,
        input: [shape.channels, shape.height, shape.width].map(|size| size as usize),
        output_channels: attributes.output_channels as usize,
        kernel: pair(attributes.kernel),
        stride: pair(attributes.stride),
        padding: pair(attributes.padding),
        dilation: pair(attributes.dilation),
        groups: attributes.groups as usize,
    };
    FilterCase::new(convolution, patch as usize)
}

/// Every update subtracts this times the gradient, so that an update before the last use of a parameter would show.
const LEARNING_RATE: f64 = 0.5;

pub(crate) struct Interpreter<'program> {
    program: &'program Program,
    values: Vec<Option<Vec<f64>>>,
    pub(crate) labels: Vec<usize>,
    pub(crate) loss: f64,
}

impl<'program> Interpreter<'program> {
    pub(crate) fn new(program: &'program Program) -> Self {
        // Some are only read as a whole here, without content.
        let empty = |role| {
            matches!(
                role,
                Role::Control
                    | Role::Metrics
                    | Role::Labels
                    | Role::OptimizerState
                    | Role::Examples
            )
        };
        let values = program
            .values
            .iter()
            .map(|value| empty(value.role).then(Vec::new))
            .collect();
        Self {
            program,
            values,
            labels: Vec::new(),
            loss: f64::NAN,
        }
    }

    pub(crate) fn set(&mut self, id: ValueId, values: Vec<f64>) {
        self.values[id.0] = Some(values);
    }

    pub(crate) fn get(&self, id: ValueId) -> &[f64] {
        self.values[id.0]
            .as_deref()
            .unwrap_or_else(|| panic!("{} was never written", self.program.value(id).name))
    }

    /// A weight, or one that has these sums over its taps.
    fn every_tap(&self, weight: ValueId, attributes: &ConvolutionAttributes) -> Vec<f64> {
        let Layout::Weight(held) = self.program.value(weight).layout else {
            panic!("a weight")
        };
        let each = (attributes.taps() / held.taps()) as usize;
        let taps = self.get(weight).iter();
        taps.flat_map(|sum| std::iter::repeat_n(sum / each as f64, each))
            .collect()
    }

    fn change(&mut self, id: ValueId) -> &mut Vec<f64> {
        self.values[id.0]
            .as_mut()
            .expect("changed in place before it was written")
    }

    pub(crate) fn run(&mut self) {
        for operation in &self.program.operations {
            for id in operation.reads() {
                self.get(id);
            }
            self.step(operation);
        }
    }

    fn step(&mut self, operation: &Operation) {
        match &operation.kind {
            Kind::Convolution {
                attributes,
                shape,
                input,
                weight,
                bias,
                output,
                moments,
            } => {
                let out = attributes.output_shape(*shape).expect("fits");
                let (x, w) = (self.source(input), self.get(*weight));
                let mut y = vec![0.0; out.elements() as usize];
                taps(*attributes, *shape, |xi, wi, yi| y[yi] += x[xi] * w[wi]);
                if let Some(bias) = bias {
                    let bias = self.get(*bias);
                    each(out, |channel, at| y[at] += bias[channel]);
                }
                // The statistics are taken of the numbers themselves here.
                if let Some(moments) = moments {
                    self.set(*moments, y.clone());
                }
                self.set(*output, y);
            }
            Kind::ConvolutionInputGradient {
                attributes,
                shape,
                output_gradient,
                weight,
                input_gradient,
                accumulate,
                derivative,
            } => {
                assert_ne!(output_gradient, input_gradient);
                let (g, w) = (self.get(*output_gradient), self.get(*weight));
                let mut dx = vec![0.0; shape.elements() as usize];
                taps(*attributes, *shape, |xi, wi, yi| dx[xi] += g[yi] * w[wi]);
                self.contribute(*input_gradient, dx, *accumulate);
                self.derive(*input_gradient, derivative);
            }
            Kind::ConvolutionWeightGradient {
                attributes,
                shape,
                input,
                coded,
                output_gradient,
                weight_gradient,
                bias_gradient,
            } => {
                let out = attributes.output_shape(*shape).expect("fits");
                let x = match coded.and_then(|coded| coded.slope) {
                    Some(slope) => self.behind_held_slope(input, slope),
                    None => self.source(input),
                };
                let g = self.get(*output_gradient);
                let per_output = attributes.input_channels / attributes.groups;
                let mut dw = vec![
                    0.0;
                    (attributes.output_channels * per_output) as usize
                        * attributes.taps() as usize
                ];
                taps(*attributes, *shape, |xi, wi, yi| dw[wi] += x[xi] * g[yi]);
                let mut db = vec![0.0; out.channels as usize];
                each(out, |channel, at| db[channel] += g[at]);
                self.set(*weight_gradient, dw);
                if let Some(bias_gradient) = bias_gradient {
                    self.set(*bias_gradient, db);
                }
            }
            &Kind::ConvolutionBackward {
                attributes,
                shape,
                input,
                coded,
                output_gradient,
                weight,
                weight_gradient,
                bias_gradient,
                input_gradient,
                accumulate,
                derivative,
            } => {
                let by_weight = Kind::ConvolutionWeightGradient {
                    attributes,
                    shape,
                    input,
                    coded,
                    output_gradient,
                    weight_gradient,
                    bias_gradient,
                };
                let by_input = Kind::ConvolutionInputGradient {
                    attributes,
                    shape,
                    output_gradient,
                    weight,
                    input_gradient,
                    accumulate,
                    derivative: derivative.then_some(input),
                };
                for kind in [by_weight, by_input] {
                    let operation = operation.clone();
                    self.step(&Operation { kind, ..operation });
                }
            }
            Kind::FilterPatchSums {
                attributes,
                shape,
                patch,
                input,
                sums,
                counts,
            } => {
                let case = filter_case(*attributes, *shape, *patch);
                let x = self.source(input);
                self.set(*sums, gradient_filter::patch_sums(&case, &x));
                if let Some(counts) = counts {
                    let slopes = self.slopes(input);
                    self.set(*counts, gradient_filter::patch_sums(&case, &slopes));
                }
            }
            Kind::FilterPatchAverages {
                attributes,
                shape,
                patch,
                output_gradient,
                averages,
            } => {
                let case = filter_case(*attributes, *shape, *patch);
                let g = gradient_filter::patch_averages(&case, self.get(*output_gradient));
                self.set(*averages, g);
            }
            Kind::FilterWeightGradient {
                attributes,
                shape,
                patch,
                sums,
                averages,
                weight_gradient,
            } => {
                let case = filter_case(*attributes, *shape, *patch);
                let dw = gradient_filter::weight_gradient_of_patches(
                    &case,
                    self.get(*sums),
                    self.get(*averages),
                );
                // Once for all taps, or for each.
                let Layout::Weight(held) = self.program.value(*weight_gradient).layout else {
                    panic!("a weight's gradient")
                };
                let every = (attributes.taps() / held.taps()) as usize;
                self.set(*weight_gradient, dw.into_iter().step_by(every).collect());
            }
            Kind::FilterBiasGradient {
                attributes,
                shape,
                patch,
                averages,
                bias_gradient,
            } => {
                let case = filter_case(*attributes, *shape, *patch);
                let db = gradient_filter::bias_gradient_of_patches(&case, self.get(*averages));
                self.set(*bias_gradient, db);
            }
            Kind::FilterTapSums {
                attributes,
                shape,
                patch,
                weight,
                sums,
            } => {
                let case = filter_case(*attributes, *shape, *patch);
                let summed = gradient_filter::tap_sums(&case, self.get(*weight));
                self.set(*sums, summed);
            }
            Kind::FilterInputGradient {
                attributes,
                shape,
                patch,
                averages,
                weight,
                input_gradient,
                accumulate,
                derivative,
                slopes,
                normalisation,
            } => {
                let case = filter_case(*attributes, *shape, *patch);
                let dx = gradient_filter::input_gradient_of_patches(
                    &case,
                    self.get(*averages),
                    &self.every_tap(*weight, attributes),
                );
                self.contribute(*input_gradient, dx, *accumulate);
                let slopes = match derivative {
                    Some(source) => Some(self.slopes(source)),
                    None => slopes.map(|slopes| self.get(slopes).to_vec()),
                };
                let mut g = self.get(*input_gradient).to_vec();
                if let Some(slopes) = slopes {
                    let all = g.iter_mut().zip(slopes);
                    all.for_each(|(g, slope)| *g *= slope);
                }
                if let Some(normalisation) = normalisation {
                    let [scale, ..] = self.vectors(*normalisation);
                    each(*shape, |channel, at| g[at] *= scale[channel]);
                }
                self.set(*input_gradient, g);
            }
            Kind::FilterPatchGradient {
                attributes,
                shape,
                patch,
                averages,
                weight,
                counts,
                normalisation,
                averages_before,
                ..
            } => {
                let case = filter_case(*attributes, *shape, *patch);
                let dx = gradient_filter::input_gradient_of_patches(
                    &case,
                    self.get(*averages),
                    &self.every_tap(*weight, attributes),
                );
                let pixels = gradient_filter::patch_sums(&case, &vec![1.0; dx.len()]);
                let mut g = gradient_filter::patch_sums(&case, &dx);
                for (at, g) in g.iter_mut().enumerate() {
                    let counted = counts.map_or(pixels[at], |counts| self.get(counts)[at]);
                    *g *= counted / (pixels[at] * pixels[at]);
                }
                if let Some(normalisation) = normalisation {
                    let [scale, ..] = self.vectors(*normalisation);
                    let patches = case.patches();
                    let map = shape.with_size(patches.map(|count| count as u32));
                    each(map, |channel, at| g[at] *= scale[channel]);
                }
                self.set(*averages_before, g);
            }
            Kind::KeepSlopes { input, slopes, .. } => {
                let kept = self.slopes(input);
                assert!(kept.iter().all(|slope| [0.0, 1.0].contains(slope)));
                self.set(*slopes, kept);
            }
            Kind::SlopesBackward {
                shape,
                output_gradient,
                slopes,
                normalisation,
                input_gradient,
            } => {
                let mut g = self.get(*output_gradient).to_vec();
                if let Some(slopes) = slopes {
                    let all = g.iter_mut().zip(self.get(*slopes));
                    all.for_each(|(g, slope)| *g *= slope);
                }
                if let Some(normalisation) = normalisation {
                    let [scale, ..] = self.vectors(*normalisation);
                    each(*shape, |channel, at| g[at] *= scale[channel]);
                }
                self.set(*input_gradient, g);
            }
            Kind::BatchNormStatistics {
                shape,
                epsilon,
                input,
                scale,
                shift,
                normalisation,
                ..
            } => {
                let (sum, count) = (
                    channel_sums(*shape, |at| self.get(*input)[at]),
                    shape.pixels() as f64,
                );
                let mean: Vec<f64> = sum.iter().map(|sum| sum / count).collect();
                let mut square = vec![0.0; mean.len()];
                each(*shape, |channel, at| {
                    square[channel] += (self.get(*input)[at] - mean[channel]).powi(2)
                });
                let variance: Vec<f64> = square.iter().map(|square| square / count).collect();
                self.normalise([*scale, *shift, *normalisation], &mean, &variance, *epsilon);
            }
            Kind::BatchNormPrepare {
                epsilon,
                scale,
                shift,
                running_mean,
                running_variance,
                normalisation,
                ..
            } => {
                let mean = self.get(*running_mean).to_vec();
                let variance = self.get(*running_variance).to_vec();
                self.normalise([*scale, *shift, *normalisation], &mean, &variance, *epsilon);
            }
            Kind::BatchNormBackward {
                shape,
                batch_statistics,
                output_gradient,
                input,
                coded,
                input_gradient,
                scale_gradient,
                shift_gradient,
            } => {
                let slopes = match coded.map(|coded| coded.slope) {
                    Some(Some(slope)) => held_slopes(slope.code, self.get(slope.stash)),
                    Some(None) => vec![1.0; self.get(input.value).len()],
                    None => self.slopes(input),
                };
                let mut g = self.get(*output_gradient).to_vec();
                g.iter_mut().zip(&slopes).for_each(|(g, slope)| *g *= slope);
                let [scale, _, mean, inverse] =
                    self.vectors(input.normalisation.expect("a batch norm's"));
                let z = self.get(input.value);
                let normal = |channel: usize, at: usize| (z[at] - mean[channel]) * inverse[channel];
                let db = channel_sums(*shape, |at| g[at]);
                let mut dw = vec![0.0; db.len()];
                each(*shape, |channel, at| {
                    dw[channel] += g[at] * normal(channel, at)
                });
                let count = shape.pixels() as f64;
                let mut dx = g.clone();
                each(*shape, |channel, at| {
                    if *batch_statistics {
                        dx[at] -= (db[channel] + normal(channel, at) * dw[channel]) / count;
                    }
                    dx[at] *= scale[channel];
                });
                self.set(*input_gradient, dx);
                if let (Some(scale_gradient), Some(shift_gradient)) =
                    (scale_gradient, shift_gradient)
                {
                    self.set(*scale_gradient, dw);
                    self.set(*shift_gradient, db);
                }
            }
            Kind::Apply { input, output, .. } => {
                let y = self.source(input);
                self.set(*output, y);
            }
            Kind::ActivationBackward {
                output_gradient,
                source,
                input_gradient,
                ..
            } => self.weigh(*output_gradient, *input_gradient, self.slopes(source)),
            Kind::Add {
                activation,
                left,
                right,
                output,
                ..
            } => {
                let sums = self
                    .source(left)
                    .into_iter()
                    .zip(self.source(right))
                    .map(|(a, b)| apply(*activation, a + b));
                let sums = sums.collect();
                self.set(*output, sums);
            }
            Kind::Accumulate { source, target, .. } => {
                assert_ne!(source, target);
                self.contribute(*target, self.get(*source).to_vec(), true);
            }
            Kind::Copy { source, target, .. } => self.set(*target, self.get(*source).to_vec()),
            Kind::Concat {
                shape,
                inputs,
                output,
            } => {
                let mut y = Vec::new();
                for image in 0..shape.batch as usize {
                    for input in inputs {
                        let part = self.source(input);
                        let size = part.len() / shape.batch as usize;
                        y.extend_from_slice(&part[image * size..(image + 1) * size]);
                    }
                }
                self.set(*output, y);
            }
            Kind::ConcatBackward {
                shape,
                channel_offset,
                channels,
                output_gradient,
                input_gradient,
            } => {
                let g = self.get(*output_gradient);
                let plane = (shape.height * shape.width) as usize;
                let mut dx = Vec::new();
                for image in 0..shape.batch as usize {
                    let first =
                        (image * shape.channels as usize + *channel_offset as usize) * plane;
                    dx.extend_from_slice(&g[first..first + *channels as usize * plane]);
                }
                self.set(*input_gradient, dx);
            }
            Kind::Shortcut {
                shape,
                stride,
                output_channels,
                channel_offset,
                input,
                output,
            } => {
                let (x, out) = (
                    self.source(input),
                    strided(*shape, *stride, *output_channels),
                );
                let mut y = vec![0.0; out.elements() as usize];
                shortcut(*shape, out, *stride, *channel_offset, |xi, yi| {
                    y[yi] = x[xi]
                });
                self.set(*output, y);
            }
            Kind::ShortcutBackward {
                shape,
                stride,
                output_channels,
                channel_offset,
                output_gradient,
                input_gradient,
                accumulate,
            } => {
                assert_ne!(output_gradient, input_gradient);
                let (g, out) = (
                    self.get(*output_gradient),
                    strided(*shape, *stride, *output_channels),
                );
                let mut dx = vec![0.0; shape.elements() as usize];
                shortcut(*shape, out, *stride, *channel_offset, |xi, yi| {
                    dx[xi] = g[yi]
                });
                self.contribute(*input_gradient, dx, *accumulate);
            }
            Kind::MaxPool {
                shape,
                attributes,
                input,
                output,
                taps,
            } => {
                let x = self.source(input);
                let out = attributes.output_shape(*shape).expect("fits");
                let mut y = vec![f64::NEG_INFINITY; out.elements() as usize];
                let mut at = vec![0.0; y.len()];
                windows(*attributes, *shape, |xi, yi, _| {
                    if x[xi] > y[yi] {
                        (y[yi], at[yi]) = (x[xi], xi as f64);
                    }
                });
                self.set(*output, y);
                if let Some(taps) = taps {
                    self.set(*taps, at);
                }
            }
            Kind::MaxPoolBackward {
                shape,
                output_gradient,
                taps,
                input_gradient,
                derivative,
                ..
            } => {
                let mut dx = vec![0.0; shape.elements() as usize];
                for (g, at) in self.get(*output_gradient).iter().zip(self.get(*taps)) {
                    dx[*at as usize] += g;
                }
                self.set(*input_gradient, dx);
                self.derive(*input_gradient, derivative);
            }
            Kind::AveragePool {
                shape,
                attributes,
                input,
                output,
            } => {
                let (x, out) = (
                    self.source(input),
                    attributes.output_shape(*shape).expect("fits"),
                );
                let mut y = vec![0.0; out.elements() as usize];
                windows(*attributes, *shape, |xi, yi, share| y[yi] += x[xi] * share);
                self.set(*output, y);
            }
            Kind::AveragePoolBackward {
                shape,
                attributes,
                output_gradient,
                input_gradient,
                derivative,
            } => {
                let g = self.get(*output_gradient);
                let mut dx = vec![0.0; shape.elements() as usize];
                windows(*attributes, *shape, |xi, yi, share| dx[xi] += g[yi] * share);
                self.set(*input_gradient, dx);
                self.derive(*input_gradient, derivative);
            }
            Kind::GlobalAveragePool {
                shape,
                input,
                output,
            } => {
                let plane = (shape.height * shape.width) as usize;
                let y = (self.source(input).chunks(plane))
                    .map(|plane| plane.iter().sum::<f64>() / plane.len() as f64)
                    .collect();
                self.set(*output, y);
            }
            Kind::GlobalAveragePoolBackward {
                shape,
                output_gradient,
                input_gradient,
                derivative,
            } => {
                let plane = (shape.height * shape.width) as usize;
                let g = self.get(*output_gradient);
                let dx = g
                    .iter()
                    .flat_map(|g| vec![g / plane as f64; plane])
                    .collect();
                self.set(*input_gradient, dx);
                self.derive(*input_gradient, derivative);
            }
            Kind::Dropout {
                probability,
                stream,
                input,
                output,
                ..
            } => {
                let y = self
                    .source(input)
                    .iter()
                    .zip(0..)
                    .map(|(x, at)| x * kept(*probability, *stream, at))
                    .collect();
                self.set(*output, y);
            }
            Kind::DropoutBackward {
                probability,
                stream,
                output_gradient,
                input_gradient,
                ..
            } => {
                let count = self.get(*output_gradient).len() as u64;
                let weights = (0..count).map(|at| kept(*probability, *stream, at));
                self.weigh(*output_gradient, *input_gradient, weights.collect());
            }
            Kind::CrossEntropy {
                shape,
                label_smoothing,
                logits,
                logit_gradient,
                ..
            } => {
                let (classes, batch) = (shape.channels as usize, f64::from(shape.batch));
                let mut gradient = Vec::new();
                let mut loss = 0.0;
                for (row, label) in self.get(*logits).chunks(classes).zip(&self.labels) {
                    let most = row.iter().copied().fold(f64::MIN, f64::max);
                    let total: f64 = row.iter().map(|z| (z - most).exp()).sum();
                    for (class, z) in row.iter().enumerate() {
                        let smoothing = f64::from(*label_smoothing);
                        let hit = if class == *label {
                            1.0 - smoothing
                        } else {
                            0.0
                        };
                        let target = smoothing / classes as f64 + hit;
                        loss -= target * (z - most - total.ln()) / batch;
                        gradient.push(((z - most).exp() / total - target) / batch);
                    }
                }
                self.loss = loss;
                if let Some(logit_gradient) = logit_gradient {
                    self.set(*logit_gradient, gradient);
                }
            }
            Kind::Rehearse { .. } => unreachable!("no program here rehearses"),
            Kind::GrowthScores { .. } | Kind::Mutation { .. } => {
                unreachable!("no program here changes masks")
            }
            // Here every code is exact: what is checked is who reads and writes what, and when.
            Kind::Encode {
                input,
                stash,
                slope,
                bound,
                ..
            } => {
                if let Some(slope) = slope {
                    self.set(slope.stash, self.source(input));
                }
                self.set(*stash, self.get(input.value).to_vec());
                if let Some(bound) = bound {
                    self.set(*bound, vec![0.0; 8]);
                }
            }
            // In slices on the device; here at once, and then the map is gone.
            Kind::InSlices {
                producer, readers, ..
            } => {
                for kind in std::iter::once(producer.as_ref()).chain(readers) {
                    self.step(&Operation {
                        kind: kind.clone(),
                        ..operation.clone()
                    });
                }
                if let Kind::Convolution { output, .. } = **producer {
                    self.values[output.0] = None;
                }
            }
            Kind::Decode { stash, output, .. } => {
                let values = self.get(*stash).to_vec();
                self.set(*output, values);
            }
            Kind::ScaleLoss {
                gradient, scale, ..
            } => {
                let scale = self.get(*scale)[0];
                let gradient = self.change(*gradient);
                gradient.iter_mut().for_each(|value| *value *= scale);
            }
            Kind::ClipNorm { gradients, .. } => gradients.iter().for_each(|gradient| {
                self.get(*gradient);
            }),
            Kind::Update {
                parameter,
                gradient,
                states,
                ..
            } => {
                // A gradient may stand for several taps.
                let gradient = self.get(*gradient);
                let each = self.get(*parameter).len() / gradient.len();
                let moved = (self.get(*parameter).iter().enumerate())
                    .map(|(at, p)| p - LEARNING_RATE * gradient[at / each]);
                let moved = moved.collect();
                self.set(*parameter, moved);
                assert!(states.len() <= 2);
            }
        }
    }

    fn derive(&mut self, gradient: ValueId, derivative: &Option<Source>) {
        if let Some(source) = derivative {
            self.weigh(gradient, gradient, self.slopes(source));
        }
    }

    fn weigh(&mut self, gradient: ValueId, target: ValueId, weights: Vec<f64>) {
        let all = self.get(gradient).iter().zip(weights);
        let weighed = all.map(|(gradient, weight)| gradient * weight).collect();
        self.set(target, weighed);
    }

    fn contribute(&mut self, target: ValueId, more: Vec<f64>, accumulate: bool) {
        if accumulate {
            self.change(target)
                .iter_mut()
                .zip(more)
                .for_each(|(target, more)| *target += more);
        } else {
            self.set(target, more);
        }
    }

    /// What a source is read as before its activation: a map, or the numbers of one.
    fn scaled(&self, source: &Source) -> Vec<f64> {
        let mut values = self.get(source.value).to_vec();
        if let Some(normalisation) = source.normalisation {
            let [scale, shift, ..] = self.vectors(normalisation);
            let pixels = values.len() / self.program.batch as usize / scale.len();
            for (at, value) in values.iter_mut().enumerate() {
                let channel = at / pixels % scale.len();
                *value = scale[channel] * *value + shift[channel];
            }
        }
        values
    }

    fn source(&self, source: &Source) -> Vec<f64> {
        let scaled = self.scaled(source).into_iter();
        scaled.map(|x| apply(source.activation, x)).collect()
    }

    /// What a source is read as, with the slope that it had before any code.
    fn behind_held_slope(&self, source: &Source, slope: HeldSlope) -> Vec<f64> {
        let behind = self.get(slope.stash);
        let slopes = held_slopes(slope.code, behind);
        let states = slopes.iter().zip(behind);
        (self.scaled(source).into_iter().zip(states))
            .map(|(value, (slope, behind))| {
                if *slope == 0.0 && *behind >= 6.0 {
                    6.0
                } else {
                    value * slope
                }
            })
            .collect()
    }

    fn slopes(&self, source: &Source) -> Vec<f64> {
        let scaled = self.scaled(source).into_iter();
        scaled.map(|x| slope(source.activation, x)).collect()
    }

    /// Scale, shift, mean and inverse deviation.
    fn vectors(&self, normalisation: ValueId) -> [&[f64]; 4] {
        let all = self.get(normalisation);
        let channels = all.len() / 4;
        [0, 1, 2, 3].map(|at| &all[at * channels..][..channels])
    }

    fn normalise(
        &mut self,
        [scale, shift, normalisation]: [ValueId; 3],
        mean: &[f64],
        variance: &[f64],
        epsilon: f32,
    ) {
        let inverse: Vec<f64> = variance
            .iter()
            .map(|variance| 1.0 / (variance + f64::from(epsilon)).sqrt())
            .collect();
        let scales: Vec<f64> = (self.get(scale).iter().zip(&inverse))
            .map(|(scale, inverse)| scale * inverse)
            .collect();
        let shifts = (self.get(shift).iter().zip(mean).zip(&scales))
            .map(|((shift, mean), scale)| shift - mean * scale)
            .collect();
        let all = [scales, shifts, mean.to_vec(), inverse].concat();
        self.set(normalisation, all);
    }
}

/// Here a slope is held as what stands behind the activation.
fn held_slopes(code: Code, behind: &[f64]) -> Vec<f64> {
    let six = code == Code::SlopeSix;
    let passes = |value: &f64| *value > 0.0 && !(six && *value >= 6.0);
    (behind.iter())
        .map(|value| f64::from(u8::from(passes(value))))
        .collect()
}
