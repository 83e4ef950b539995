//! Convolutions and matrix products, as networks have them.

use super::BenchOptions;
use super::measure::{Bench, Subject};
use super::{Kind, Row, Unit};
use crate::Error;
use crate::tuning::ShapeClass;
use smidgen_conv::{
    ConvolutionShape, Forward, InputGradient, Pass, WeightGradient, forward, input_gradient,
    weight_gradient, workspace,
};
use smidgen_gpu::Region;

/// Multiply-adds of the largest case that is quick.
const QUICK: u64 = 250_000_000;

/// A shape and what it is called.
pub(super) struct Case {
    kind: Kind,
    name: String,
    shape: ConvolutionShape,
}

/// Matrix products, then layers of ResNet-20 (batch 32), and of ResNet-18 and MobileNetV2 (batch 8).
pub(super) fn convolutions(options: &BenchOptions) -> Vec<Case> {
    let mut cases = vec![product(512), product(1024)];
    cases.extend([
        dense(32, 16, 32),
        dense(32, 32, 16),
        dense(32, 64, 8),
        dense(8, 64, 56),
        dense(8, 128, 28),
        dense(8, 256, 14),
        convolution(
            "conv 8x96x28x28, depthwise 3x3",
            square(8, 96, 28, 96, 3).with_groups(96),
        ),
        convolution("conv 8x64x28x28 to 384, 1x1", square(8, 64, 28, 384, 1)),
    ]);
    cases.retain(|case| !options.quick || case.shape.multiply_adds() <= QUICK);
    cases
}

fn product(size: u32) -> Case {
    Case {
        kind: Kind::MatrixProduct,
        name: format!("matrix product {size}x{size}x{size}"),
        shape: ConvolutionShape::linear(size, size, size),
    }
}

fn dense(batch: u32, channels: u32, size: u32) -> Case {
    convolution(
        &format!("conv {batch}x{channels}x{size}x{size} to {channels}, 3x3"),
        square(batch, channels, size, channels, 3),
    )
}

fn convolution(name: &str, shape: ConvolutionShape) -> Case {
    Case {
        kind: Kind::Convolution,
        name: name.into(),
        shape,
    }
}

fn square(batch: u32, channels: u32, size: u32, outputs: u32, kernel: u32) -> ConvolutionShape {
    ConvolutionShape::new(batch, [channels, size, size], outputs, [kernel; 2])
        .with_padding(kernel / 2)
}

/// Layers of ResNet-20 (batch 32), ResNet-18 and MobileNetV2 (batch 8), by the sizes that other projects are compared on: what
/// every benchmark of convolutions measures.
#[must_use]
pub fn networks() -> Vec<(String, ConvolutionShape)> {
    let all = convolutions(&BenchOptions { quick: false });
    let layers = all
        .into_iter()
        .filter(|case| case.kind == Kind::Convolution);
    layers
        .map(|case| (case.name.trim_start_matches("conv ").to_owned(), case.shape))
        .collect()
}

impl Case {
    fn class(&self, pass: Pass) -> ShapeClass {
        let shape = self.shape;
        ShapeClass { pass, shape }
    }

    /// What is measured of it.
    pub(super) fn classes(&self) -> Vec<ShapeClass> {
        let passes: &[Pass] = match self.kind {
            Kind::MatrixProduct => &[Pass::Forward],
            _ => &[Pass::Forward, Pass::InputGradient, Pass::WeightGradient],
        };
        passes.iter().map(|pass| self.class(*pass)).collect()
    }

    /// A matrix product, or the three passes of a convolution.
    pub(super) fn rows(&self, bench: &Bench<'_>) -> Result<Vec<Row>, Error> {
        let (shape, facts) = (&self.shape, bench.device.facts());
        let variant = |pass| bench.choices.get(&self.class(pass));
        let bytes = [Pass::Forward, Pass::InputGradient, Pass::WeightGradient]
            .map(|pass| workspace(pass, shape, facts, variant(pass)));
        let [forward_bytes, input_bytes, weight_bytes] = bytes;
        let workspace_bytes = forward_bytes?.max(input_bytes?).max(weight_bytes?);
        let sizes = [
            shape.input_bytes(),
            shape.weight_bytes(),
            shape.output_bytes(),
            shape.input_bytes().max(shape.weight_bytes()),
            workspace_bytes.max(16),
        ];
        let buffers = bench.buffers(&sizes)?;
        let region = |buffer: usize| Region::whole(buffer, sizes[buffer]);
        let [input, weight, output] = [0, 1, 2].map(region);
        let result = |bytes| Region::whole(3, bytes);
        let workspace = (workspace_bytes > 0).then(|| region(4));
        let forward = forward(
            shape,
            facts,
            variant(Pass::Forward),
            &Forward {
                input: input.into(),
                weight,
                bias: None,
                output,
                workspace,
            },
        )?;
        if self.kind == Kind::MatrixProduct {
            let subject = self.subject(self.name.clone());
            return Ok(vec![bench.row(subject, &forward, &buffers)?]);
        }
        let input_gradient = input_gradient(
            shape,
            facts,
            variant(Pass::InputGradient),
            &InputGradient {
                output_gradient: output,
                weight,
                input_gradient: result(shape.input_bytes()),
                accumulate: false,
                derivative: None,
                workspace,
            },
        )?;
        let weight_gradient = weight_gradient(
            shape,
            facts,
            variant(Pass::WeightGradient),
            &WeightGradient {
                input: input.into(),
                output_gradient: output,
                weight_gradient: result(shape.weight_bytes()),
                bias_gradient: None,
                workspace,
            },
        )?;
        [
            ("forward", forward),
            ("input gradient", input_gradient),
            ("weight gradient", weight_gradient),
        ]
        .into_iter()
        .map(|(pass, launches)| {
            let subject = self.subject(format!("{}, {pass}", self.name));
            bench.row(subject, &launches, &buffers)
        })
        .collect()
    }

    /// A depthwise convolution does too little arithmetic for its bytes to be limited by anything else.
    fn subject(&self, name: String) -> Subject {
        let shape = &self.shape;
        let (unit, work) = if shape.is_depthwise() {
            let bytes = shape.input_bytes() + shape.weight_bytes() + shape.output_bytes();
            (Unit::Bandwidth, bytes)
        } else {
            (Unit::Arithmetic, 2 * shape.multiply_adds())
        };
        Subject {
            kind: self.kind,
            name,
            unit,
            work,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn cases_are_valid_and_told_apart_by_name() {
        let all = convolutions(&BenchOptions { quick: false });
        assert_eq!(all.len(), 10);
        let names: BTreeSet<_> = all.iter().map(|case| &case.name).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.iter().all(|case| case.shape.validate().is_ok()));
        let depthwise = all.iter().filter(|case| case.shape.is_depthwise());
        assert_eq!(depthwise.count(), 1);
    }

    #[test]
    fn the_quick_ones_are_a_part() {
        let quick = convolutions(&BenchOptions { quick: true });
        assert_eq!(quick.len(), 6);
        assert!(quick.iter().any(|case| case.kind == Kind::MatrixProduct));
    }
}
