use super::convert::activation_kind;
use crate::Error;
use smidgen_gpu::Region;
use smidgen_graph::{Program, Source, ValueId};
use smidgen_plan::{Limits, Place, ProgramPlan};

/// Finds the regions of a program's values in the arena.
#[derive(Debug, Clone, Copy)]
pub(super) struct Binder<'a> {
    pub(super) program: &'a Program,
    pub(super) plan: &'a ProgramPlan,
    pub(super) limits: Limits,
}

impl Binder<'_> {
    pub(super) fn region(&self, id: ValueId) -> Result<Region, Error> {
        let place = self.plan.values[id.0].ok_or_else(|| Error::UnknownValue {
            name: self.program.value(id).name.clone(),
        })?;
        Ok(self.locate(place))
    }

    pub(super) fn source(&self, source: &Source) -> Result<smidgen_gpu::Source, Error> {
        Ok(smidgen_gpu::Source {
            region: self.region(source.value)?,
            normalisation: (source.normalisation)
                .map(|id| self.region(id))
                .transpose()?,
            activation: activation_kind(source.activation),
        })
    }

    pub(super) fn workspace(&self, operation: usize) -> Option<Region> {
        self.plan.workspaces[operation].map(|place| self.locate(place))
    }

    pub(super) fn needed_workspace(&self, operation: usize) -> Result<Region, Error> {
        let layer = || format!("workspace of {}", self.program.operations[operation].layer);
        self.workspace(operation)
            .ok_or_else(|| Error::UnknownValue { name: layer() })
    }

    fn locate(&self, place: Place) -> Region {
        let buffer = self.limits.max_buffer_bytes;
        Region {
            buffer: (place.offset / buffer) as usize,
            offset: place.offset % buffer,
            size: place.bytes,
        }
    }
}

/// Regions within one workspace start at multiples of this.
pub(super) const WORKSPACE_ALIGNMENT: u64 = 256;

/// Cuts `bytes` off the front of a workspace.
pub(super) fn split(workspace: &mut Region, bytes: u64) -> Region {
    let front = Region {
        size: bytes,
        ..*workspace
    };
    let taken = bytes.next_multiple_of(WORKSPACE_ALIGNMENT);
    *workspace = Region {
        offset: workspace.offset + taken,
        size: workspace.size - taken,
        ..*workspace
    };
    front
}
