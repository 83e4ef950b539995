//! Activations: forward, and backward from the input or, where that suffices, from the output.

use crate::elementwise::{flat_launch, in_place_regions};
use crate::error::expect_regions;
use crate::{MapShape, OpsError, elementwise};
use smidgen_gpu::{Launch, Region};

/// An activation function. All of them map zero to zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Activation {
    /// The value itself.
    #[default]
    Identity,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x * relu6(x + 3) / 6`.
    HardSwish,
    /// `x * sigmoid(x)`.
    Silu,
    /// `x` times the normal distribution function of `x`.
    Gelu,
}

impl Activation {
    /// Every activation.
    pub const ALL: [Self; 6] = [
        Self::Identity,
        Self::Relu,
        Self::Relu6,
        Self::HardSwish,
        Self::Silu,
        Self::Gelu,
    ];

    /// Whether the derivative can be told from the output alone, so that the input need not be kept.
    #[must_use]
    pub fn derivative_from_output(self) -> bool {
        matches!(self, Self::Identity | Self::Relu | Self::Relu6)
    }

    /// The shader flag of this activation, as `common/activation.wgsl` knows it; the identity has none.
    #[must_use]
    pub fn flag(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Relu => Some("ACTIVATION_RELU"),
            Self::Relu6 => Some("ACTIVATION_RELU6"),
            Self::HardSwish => Some("ACTIVATION_HARD_SWISH"),
            Self::Silu => Some("ACTIVATION_SILU"),
            Self::Gelu => Some("ACTIVATION_GELU"),
        }
    }

    pub(crate) fn defines(self, in_place: bool) -> Vec<(&'static str, String)> {
        self.flag()
            .into_iter()
            .chain(in_place.then_some("IN_PLACE"))
            .map(|name| (name, String::new()))
            .collect()
    }
}

/// Regions of [`forward`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// The values, `shape.bytes()`.
    pub input: Region,
    /// The activated values; may be the same region as `input`.
    pub output: Region,
}

/// `output = activation(input)`.
///
/// # Errors
/// An empty or too large shape, a region too small for it.
pub fn forward(
    shape: &MapShape,
    activation: Activation,
    regions: &Forward,
) -> Result<Vec<Launch>, OpsError> {
    const NAME: &str = "activation";
    shape.check(NAME)?;
    let bytes = shape.bytes();
    expect_regions(
        NAME,
        &[
            ("input", regions.input, bytes),
            ("output", regions.output, bytes),
        ],
    )?;
    if activation == Activation::Identity {
        return elementwise::copy(bytes, regions.input, regions.output);
    }
    let (bound, in_place) = in_place_regions(&[regions.input], regions.output);
    Ok(vec![flat_launch(
        "ops/activation_forward.wgsl",
        &activation.defines(in_place),
        shape.elements(),
        bound,
    )])
}

/// Regions of [`backward`] and [`backward_from_output`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backward {
    /// The forward's input, or its output for [`backward_from_output`].
    pub value: Region,
    /// Gradient of the loss by the output.
    pub output_gradient: Region,
    /// Gradient of the loss by the input; may be the same region as `output_gradient`.
    pub input_gradient: Region,
}

/// `input_gradient = output_gradient * activation'(value)`, `value` being the forward's input.
///
/// # Errors
/// An empty or too large shape, a region too small for it.
pub fn backward(
    shape: &MapShape,
    activation: Activation,
    regions: &Backward,
) -> Result<Vec<Launch>, OpsError> {
    const NAME: &str = "activation backward";
    shape.check(NAME)?;
    let bytes = shape.bytes();
    expect_regions(
        NAME,
        &[
            ("output_gradient", regions.output_gradient, bytes),
            ("input_gradient", regions.input_gradient, bytes),
        ],
    )?;
    if activation == Activation::Identity {
        return elementwise::copy(bytes, regions.output_gradient, regions.input_gradient);
    }
    expect_regions(NAME, &[("value", regions.value, bytes)])?;
    let (gradients, in_place) =
        in_place_regions(&[regions.output_gradient], regions.input_gradient);
    Ok(vec![flat_launch(
        "ops/activation_backward.wgsl",
        &activation.defines(in_place),
        shape.elements(),
        [vec![regions.value], gradients].concat(),
    )])
}

/// Like [`backward`], with the forward's output as `value`: ReLU and ReLU6 need no more.
///
/// # Errors
/// As [`backward`], and an activation whose derivative the output does not tell.
pub fn backward_from_output(
    shape: &MapShape,
    activation: Activation,
    regions: &Backward,
) -> Result<Vec<Launch>, OpsError> {
    if !activation.derivative_from_output() {
        return Err(OpsError::shape(
            "activation backward",
            format!(
                "the output of {activation:?} does not tell its derivative, keep the input and use `backward`"
            ),
        ));
    }
    // Both are 1 exactly where the value is inside the linear range, before and after the clamp alike.
    backward(shape, activation, regions)
}
