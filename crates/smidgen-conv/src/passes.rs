//! The forward pass and the input gradient.

use crate::gather::Gather;
use crate::geometry::{Axis, Extent};
use crate::select::{choose, default_gather};
use crate::strips::{ByInput, Strips};
use crate::winograd::{Bound, Winograd};
use crate::{ConvolutionShape, GatherTile, Pass, ShapeError, SharedTile, StripTile, Variant};
use smidgen_gpu::{DeviceFacts, Launch, Region, Source, moments_bytes, normalisation_bytes};

/// What the forward pass reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// Planes of quads, `shape.input_bytes()`, and how they are read.
    pub input: Source,
    /// Stacks of blocks, `shape.weight_bytes()`.
    pub weight: Region,
    /// One value an output channel, padded with zeros to a multiple of four: `shape.bias_bytes()`.
    pub bias: Option<Region>,
    /// Planes of quads, `shape.output_bytes()`; written whole, padding channels zero.
    pub output: Region,
    /// [`workspace`](crate::workspace) bytes. With less, or none, the default is a variant that needs less: slower on some devices.
    pub workspace: Option<Region>,
}

/// What the input gradient reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputGradient {
    /// Planes of quads, `shape.output_bytes()`.
    pub output_gradient: Region,
    /// Stacks of blocks, `shape.weight_bytes()`.
    pub weight: Region,
    /// Planes of quads, `shape.input_bytes()`; written whole, padding channels zero.
    pub input_gradient: Region,
    /// Add to what `input_gradient` holds instead of replacing it.
    pub accumulate: bool,
    /// Then multiply with the derivative of this activation, where it was (for ReLU and ReLU6 the region may hold what it gave): the
    /// gradient that is written is one in front of the activation. `shape.input_bytes()`.
    pub derivative: Option<Source>,
    /// As in [`Forward`].
    pub workspace: Option<Region>,
}

/// The first `needed` bytes of a region, so that a launch binds what it uses. Kernels run without bounds checks, so this is where a
/// region that is too small must be found.
pub(crate) fn sized(name: &'static str, region: Region, needed: u64) -> Result<Region, ShapeError> {
    if region.size < needed {
        return Err(ShapeError::RegionTooSmall {
            region: name,
            given: region.size,
            needed,
        });
    }
    Ok(Region {
        size: needed,
        ..region
    })
}

/// How a pass gathers.
enum Way {
    Tile(GatherTile),
    Shared(SharedTile),
    Strips(StripTile),
    /// With the part of the workspace that it needs.
    Winograd(Winograd, Region),
}

fn way(
    variant: Option<Variant>,
    pass: Pass,
    shape: &ConvolutionShape,
    facts: &DeviceFacts,
    workspace: Option<Region>,
) -> Result<Way, ShapeError> {
    let room = workspace.unwrap_or(Region::whole(0, 0));
    match choose(variant, pass, shape, facts)? {
        Variant::Gather(tile) => Ok(Way::Tile(tile)),
        Variant::Tiles(tile) => Ok(Way::Shared(tile)),
        Variant::Winograd(size) => {
            let method = Winograd::of(size, pass, shape, facts);
            if variant.is_none() && room.size < method.workspace() {
                return Ok(Way::Tile(default_gather(pass, shape, facts)));
            }
            let workspace = sized("workspace", room, method.workspace())?;
            Ok(Way::Winograd(method, workspace))
        }
        Variant::Strips(tile) => Ok(Way::Strips(tile)),
        variant @ (Variant::Blocks(_) | Variant::SharedBlocks(_) | Variant::Product(_)) => {
            Err(ShapeError::UnfitVariant { variant, pass })
        }
    }
}

/// As [`sized`], for a map of the shape's input.
pub(crate) fn sized_source(
    name: &'static str,
    source: Source,
    shape: &ConvolutionShape,
) -> Result<Source, ShapeError> {
    let vectors = normalisation_bytes(shape.input_channels);
    Ok(Source {
        region: sized(name, source.region, shape.input_bytes())?,
        normalisation: (source.normalisation)
            .map(|region| sized("normalisation", region, vectors))
            .transpose()?,
        ..source
    })
}

pub(crate) fn extents(shape: &ConvolutionShape) -> [Extent; 2] {
    let inputs = [shape.input_height, shape.input_width];
    let outputs = [shape.output_height(), shape.output_width()];
    [0, 1].map(|axis| Extent {
        input: inputs[axis],
        output: outputs[axis],
        kernel: shape.kernel[axis],
        stride: shape.stride[axis],
        padding: shape.padding[axis],
        dilation: shape.dilation[axis],
    })
}

/// The gathers that make up a pass of a shape, which must be [flattened](ConvolutionShape::flattened).
pub(crate) fn gathers(pass: Pass, shape: &ConvolutionShape) -> Vec<[Axis; 2]> {
    if pass != Pass::InputGradient {
        return vec![extents(shape).map(Axis::forward)];
    }
    let [rows, columns] = extents(shape).map(Axis::input_gradient);
    let both = |y: &Axis| columns.iter().map(|x| [*y, *x]).collect::<Vec<_>>();
    rows.iter().flat_map(both).collect()
}

impl Gather<'_> {
    /// All launches of the pass, by the shared tile where one is given.
    fn launches(self, shared: Option<SharedTile>) -> Vec<Launch> {
        let shape = self.shape.flattened();
        if shared.is_none() && shape.is_pointwise() && shape.groups == 1 {
            return vec![self.pointwise()];
        }
        let pass = if self.transposed {
            Pass::InputGradient
        } else {
            Pass::Forward
        };
        let gather = Gather {
            shape: &shape,
            ..self
        };
        let launch = |[y, x]: &[Axis; 2]| match shared {
            Some(tile) => gather.shared(tile, *y, *x),
            None => gather.taps(*y, *x),
        };
        gathers(pass, &shape).iter().filter_map(launch).collect()
    }
}

/// Launches of `output = convolution(input, weight) + bias`, by the given variant, or else the default of the device's class.
///
/// # Errors
/// A shape that is not valid, a variant that does not fit it, or a region smaller than it needs.
pub fn forward(
    shape: &ConvolutionShape,
    facts: &DeviceFacts,
    variant: Option<Variant>,
    regions: &Forward,
) -> Result<Vec<Launch>, ShapeError> {
    launches(shape, facts, variant, regions, None)
}

/// Whether a variant of the forward pass (the default where none is given) can take the moments of what it computes.
///
/// # Errors
/// A shape that is not valid, or a variant that does not fit it.
pub fn takes_moments(
    shape: &ConvolutionShape,
    facts: &DeviceFacts,
    variant: Option<Variant>,
) -> Result<bool, ShapeError> {
    // With more quads a workgroup's moments would not fit the memory that every device has.
    Ok(match choose(variant, Pass::Forward, shape, facts)? {
        Variant::Gather(tile) => tile.quads <= MOST_QUADS_WITH_MOMENTS,
        // There is room for the records of as many groups as take 64 pixels each.
        Variant::Tiles(tile) => tile.all_pixels() >= 64,
        Variant::Strips(tile) => {
            let pass = Pass::Forward;
            Strips { pass, shape, tile }.splits() <= shape.output_plane().div_ceil(64)
        }
        _ => false,
    })
}

const MOST_QUADS_WITH_MOMENTS: u32 = 4;

/// The same as [`forward`], and of every workgroup's pixels the mean and the squared deviations, while they are in registers: what the
/// statistics of a normalisation are merged from. `moments` is of [`moments_bytes`] bytes.
///
/// # Errors
/// As [`forward`], and a variant that does not [take moments](takes_moments).
pub fn forward_with_moments(
    shape: &ConvolutionShape,
    facts: &DeviceFacts,
    variant: Option<Variant>,
    regions: &Forward,
    moments: Region,
) -> Result<Vec<Launch>, ShapeError> {
    if !takes_moments(shape, facts, variant)? {
        let (pass, variant) = (Pass::Forward, choose(variant, Pass::Forward, shape, facts)?);
        return Err(ShapeError::UnfitVariant { variant, pass });
    }
    let bytes = moments_bytes(shape.output_channels, u64::from(shape.output_plane()));
    let moments = sized("moments", moments, bytes)?;
    launches(shape, facts, variant, regions, Some(moments))
}

fn launches(
    shape: &ConvolutionShape,
    facts: &DeviceFacts,
    variant: Option<Variant>,
    regions: &Forward,
    moments: Option<Region>,
) -> Result<Vec<Launch>, ShapeError> {
    let way = way(variant, Pass::Forward, shape, facts, regions.workspace)?;
    let input = sized_source("input", regions.input, shape)?;
    let weight = sized("weight", regions.weight, shape.weight_bytes())?;
    let bias = (regions.bias)
        .map(|bias| sized("bias", bias, shape.bias_bytes()))
        .transpose()?;
    let output = sized("output", regions.output, shape.output_bytes())?;
    let mut bound = vec![input.region, weight];
    bound.extend(bias);
    bound.extend(input.normalisation);
    bound.push(output);
    bound.extend(moments);
    let taken = moments.map(|_| ("MOMENTS", String::new()));
    let mut flags: Vec<_> = input.defines().chain(taken).collect();
    let (tile, shared) = match way {
        Way::Tile(tile) => (tile, None),
        Way::Shared(tile) => (default_gather(Pass::Forward, shape, facts), Some(tile)),
        Way::Strips(tile) => {
            let pass = Pass::Forward;
            flags.extend(bias.map(|_| ("BIAS", String::new())));
            return Ok(vec![Strips { pass, shape, tile }.forward(flags, bound)]);
        }
        Way::Winograd(method, workspace) => {
            return Ok(method.launches(&Bound {
                source: input,
                weight,
                bias,
                destination: output,
                workspace,
                accumulate: false,
                derivative: None,
            }));
        }
    };
    let gather = Gather {
        shape,
        tile,
        transposed: false,
        accumulate: false,
        bias: regions.bias.is_some(),
        source: flags,
        regions: bound,
    };
    Ok(gather.launches(shared))
}

/// Launches of the gradient with respect to the input: one, or one for every residue of a pixel modulo the stride, so that none computes
/// with taps that cannot reach it. By the given variant, or else the default of the device's class.
///
/// # Errors
/// A shape that is not valid, a variant that does not fit it, or a region smaller than it needs.
pub fn input_gradient(
    shape: &ConvolutionShape,
    facts: &DeviceFacts,
    variant: Option<Variant>,
    regions: &InputGradient,
) -> Result<Vec<Launch>, ShapeError> {
    let way = way(
        variant,
        Pass::InputGradient,
        shape,
        facts,
        regions.workspace,
    )?;
    let output_gradient = sized(
        "output gradient",
        regions.output_gradient,
        shape.output_bytes(),
    )?;
    let weight = sized("weight", regions.weight, shape.weight_bytes())?;
    let input_gradient = sized(
        "input gradient",
        regions.input_gradient,
        shape.input_bytes(),
    )?;
    let derivative = (regions.derivative)
        .map(|derivative| sized_source("activated input", derivative, shape))
        .transpose()?;
    let (tile, shared) = match way {
        Way::Tile(tile) => (tile, None),
        Way::Shared(tile) => (
            default_gather(Pass::InputGradient, shape, facts),
            Some(tile),
        ),
        Way::Strips(tile) => {
            let by_input = ByInput {
                weight,
                input_gradient,
                accumulate: regions.accumulate,
                derivative: derivative.is_some(),
            };
            let pass = Pass::InputGradient;
            let strips = Strips { pass, shape, tile };
            let share = strips.share(u64::MAX);
            let launch =
                strips.backward(&share, output_gradient, derivative, Some(&by_input), None);
            return Ok(vec![launch]);
        }
        Way::Winograd(method, workspace) => {
            return Ok(method.launches(&Bound {
                source: output_gradient.into(),
                weight,
                bias: None,
                destination: input_gradient,
                workspace,
                accumulate: regions.accumulate,
                derivative,
            }));
        }
    };
    let mut bound = vec![output_gradient, weight];
    let mut source = Vec::new();
    if let Some(derivative) = derivative {
        bound.extend(derivative.normalisation);
        bound.push(derivative.region);
        source.push(("DERIVATIVE", String::new()));
        source.extend(derivative.defines());
    }
    bound.push(input_gradient);
    let gather = Gather {
        shape,
        tile,
        transposed: true,
        accumulate: regions.accumulate,
        bias: false,
        source,
        regions: bound,
    };
    Ok(gather.launches(shared))
}
