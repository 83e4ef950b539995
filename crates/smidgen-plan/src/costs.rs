//! What operations cost in time.

use smidgen_graph::{Operation, OperationKind, Program, Role};

/// Predicts how long operations take. A measured table is one, [`Roofline`] another.
pub trait Costs {
    /// Seconds of one run of an operation of `program`.
    fn seconds(&self, program: &Program, operation: &Operation) -> f64;

    /// Seconds that a launch takes whatever it does.
    fn launch(&self) -> f64;

    /// Seconds of an operation [in slices](OperationKind::InSlices), by those of what it runs in them; `None` for any other.
    fn in_slices(&self, program: &Program, operation: &Operation) -> Option<f64> {
        let OperationKind::InSlices {
            slices,
            producer,
            readers,
        } = &operation.kind
        else {
            return None;
        };
        let parts = std::iter::once(producer.as_ref()).chain(readers);
        let seconds = parts.map(|kind| {
            let part = Operation {
                kind: kind.clone(),
                ..operation.clone()
            };
            self.seconds(program, &part)
        });
        let launches = LAUNCHES_OF_A_SLICE * (readers.len() + 1) as f64;
        Some(seconds.sum::<f64>() + f64::from(*slices) * launches * self.launch())
    }
}

/// A normalisation's backward pass has three, and as many copies bring the numbers of its channels and take them away.
const LAUNCHES_OF_A_SLICE: f64 = 4.0;

/// The slower of arithmetic and memory, plus a constant for every launch (Williams et al., "Roofline", 2009).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Roofline {
    /// Floating-point operations a second that convolutions reach.
    pub flops: f64,
    /// Bytes a second, read and written together.
    pub bytes: f64,
    /// Bytes a second to the host's memory, or from there.
    pub host: f64,
    /// Seconds that a launch takes whatever it does.
    pub launch: f64,
}

impl Costs for Roofline {
    fn launch(&self) -> f64 {
        self.launch
    }

    fn seconds(&self, program: &Program, operation: &Operation) -> f64 {
        if let Some(seconds) = self.in_slices(program, operation) {
            return seconds;
        }
        let ids = operation.reads().into_iter().chain(operation.writes());
        let ids: Vec<_> = ids.collect();
        let launches = f64::from(program.slabs().count()) * self.launch;
        let on_host = (ids.iter()).find(|id| program.value(**id).role == Role::Offloaded);
        if let Some(id) = on_host {
            return launches + program.bytes(*id) as f64 / self.host;
        }
        let bytes: u64 = ids.iter().map(|id| program.bytes(*id)).sum();
        let memory = bytes as f64 / self.bytes;
        let arithmetic = 2.0 * multiply_adds(program, &operation.kind) as f64 / self.flops;
        launches + memory.max(arithmetic)
    }
}

/// Multiply-adds of the operations that have many for each number they read (of a sparse layer those of its slots); 0 for all others.
#[must_use]
pub fn multiply_adds(program: &Program, kind: &OperationKind) -> u64 {
    match kind {
        OperationKind::Convolution {
            attributes,
            shape,
            weight,
            ..
        }
        | OperationKind::ConvolutionInputGradient {
            attributes,
            shape,
            weight,
            ..
        }
        | OperationKind::ConvolutionWeightGradient {
            attributes,
            shape,
            weight_gradient: weight,
            ..
        }
        | OperationKind::GrowthScores {
            attributes,
            shape,
            scores: weight,
            ..
        } => attributes.output_shape(*shape).map_or(0, |output| {
            let layout = program.value(*weight).layout;
            output.pixels() * layout.multiply_adds_per_pixel(attributes)
        }),
        OperationKind::ConvolutionBackward {
            attributes, shape, ..
        } => attributes.output_shape(*shape).map_or(0, |output| {
            2 * output.pixels() * attributes.multiply_adds_per_pixel()
        }),
        OperationKind::FilterWeightGradient {
            attributes,
            shape,
            patch,
            ..
        }
        | OperationKind::FilterPatchGradient {
            attributes,
            shape,
            patch,
            ..
        }
        | OperationKind::FilterInputGradient {
            attributes,
            shape,
            patch,
            ..
        } => attributes.output_shape(*shape).map_or(0, |output| {
            let patches =
                [output.height, output.width].map(|size| u64::from(size.div_ceil(*patch)));
            u64::from(output.batch)
                * patches[0]
                * patches[1]
                * attributes.of_one_tap().multiply_adds_per_pixel()
        }),
        _ => 0,
    }
}
