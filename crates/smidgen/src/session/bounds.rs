//! What error-bounded codes have reached.

use super::Session;
use crate::Error;
use serde::Serialize;
use smidgen_gpu::bytemuck;
use smidgen_graph::OperationKind;
use smidgen_stash::Bound;

/// The error of a stash in an error-bounded code.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StashBound {
    /// The stash.
    pub value: String,
    /// The layer that makes it.
    pub layer: String,
    /// No number came back further off than this, in the last training step (of several micro-batches, the last). Infinite, in JSON null, if there was an infinity or a NaN.
    pub error: f64,
    /// The share of its numbers that are not zero: these alone have an error.
    pub nonzero: f64,
}

impl Session {
    /// What the error-bounded codes of the plan have reached in the last training step; none before it.
    ///
    /// # Errors
    /// The device failed.
    pub fn bounds(&mut self) -> Result<Vec<StashBound>, Error> {
        let compiled = self.program();
        let mut found = Vec::new();
        for operation in &compiled.program.operations {
            if let OperationKind::Encode {
                shape,
                input,
                bound: Some(bound),
                ..
            } = &operation.kind
            {
                let name = compiled.program.value(input.value).name.clone();
                let place = compiled.place(*bound)?;
                found.push((name, operation.layer.clone(), *shape, place));
            }
        }
        let mut bounds = Vec::with_capacity(found.len());
        for (value, layer, shape, place) in found {
            let words = self.memory.read(place)?;
            let block: Bound = bytemuck::pod_read_unaligned(bytemuck::cast_slice(&words));
            if block.step > 0.0 {
                bounds.push(StashBound {
                    value,
                    layer,
                    error: block.achieved(),
                    nonzero: f64::from(block.nonzero) / shape.elements() as f64,
                });
            }
        }
        Ok(bounds)
    }
}
