use super::convert::activation_kind;
use crate::Error;
use smidgen_gpu::{Launch, Region};
use smidgen_graph::{Layout, Program, Source, ValueId};
use smidgen_plan::{Limits, Place, ProgramPlan};

/// Finds the regions of a program's values in the arena.
#[derive(Debug, Clone, Copy)]
pub(super) struct Binder<'a> {
    pub(super) program: &'a Program,
    pub(super) plan: &'a ProgramPlan,
    pub(super) limits: Limits,
    /// Where only a slab of every map is meant: which.
    pub(super) slab: Option<Slab>,
    /// Values that stand elsewhere than the plan says.
    pub(super) elsewhere: &'a [(ValueId, Region)],
    /// The workspace, where it is not the whole that the plan says.
    pub(super) room: Option<Option<Region>>,
}

/// What is in f16 is a buffer of its own from this number on, as long as if it were f32, until [`Binder::in_halves`]: so that those who make launches need
/// to know nothing of it.
const FIRST_HALF: usize = usize::MAX / 2;

/// A slab of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slab {
    /// Which of all, from 0.
    pub(super) number: u32,
    /// Its images.
    pub(super) images: u32,
}

impl<'a> Binder<'a> {
    pub(super) fn new(program: &'a Program, plan: &'a ProgramPlan, limits: Limits) -> Self {
        Self {
            program,
            plan,
            limits,
            slab: None,
            elsewhere: &[],
            room: None,
        }
    }

    /// The same for a slab of every map.
    pub(super) fn at_slab(&self, slab: Slab) -> Self {
        Self {
            slab: Some(slab),
            ..*self
        }
    }

    /// The place of a value; of one that holds something of single images, where a slab is meant, of that slab.
    pub(super) fn region(&self, id: ValueId) -> Result<Region, Error> {
        let layout = self.program.value(id).layout;
        let region = self.as_held(id)?;
        if !matches!(layout, Layout::HalfMap(_)) {
            return Ok(region);
        }
        Ok(Region {
            buffer: FIRST_HALF + id.0,
            offset: 2 * (region.offset - self.whole(id)?.offset),
            size: 2 * region.size,
        })
    }

    /// The launch with what it reads and writes in f16 where it stands.
    pub(super) fn in_halves(&self, mut launch: Launch) -> Result<Launch, Error> {
        for (at, region) in launch.regions.iter_mut().enumerate() {
            let Some(id) = region.buffer.checked_sub(FIRST_HALF) else {
                continue;
            };
            let whole = self.whole(ValueId(id))?;
            *region = Region {
                offset: whole.offset + region.offset / 2,
                size: region.size / 2,
                ..whole
            };
            launch.halves.push(at);
        }
        Ok(launch)
    }

    fn as_held(&self, id: ValueId) -> Result<Region, Error> {
        let layout = self.program.value(id).layout;
        match layout.of_images(self.program.slab) {
            Some(_) => self.part(id, |images| {
                layout.of_images(images).as_ref().map_or(0, Layout::bytes)
            }),
            None => self.whole(id),
        }
    }

    /// The place of what takes `of(images)` bytes; where a slab is meant, of that slab.
    pub(super) fn part(&self, id: ValueId, of: impl Fn(u32) -> u64) -> Result<Region, Error> {
        let whole = self.whole(id)?;
        let Some(Slab { number, images }) = self.slab else {
            return Ok(whole);
        };
        Ok(Region {
            offset: whole.offset + u64::from(number) * self.program.slabs().stride(&of),
            size: of(images),
            ..whole
        })
    }

    /// The first of these images, and of how many.
    pub(super) fn among(&self, images: u32) -> (u32, u32) {
        let first = |slab: Slab| (slab.number * self.program.slab, self.program.batch);
        self.slab.map_or((0, images), first)
    }

    /// The place of a value, all slabs together.
    pub(super) fn whole(&self, id: ValueId) -> Result<Region, Error> {
        if let Some((_, region)) = self.elsewhere.iter().find(|(other, _)| *other == id) {
            return Ok(*region);
        }
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
        (self.room)
            .unwrap_or_else(|| self.plan.workspaces[operation].map(|place| self.locate(place)))
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
