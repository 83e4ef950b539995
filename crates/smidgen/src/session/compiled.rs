use crate::Error;
use smidgen_gpu::{Device, Launch, Sequence, wgpu};
use smidgen_graph::{Program, ValueId};
use smidgen_plan::{Place, ProgramPlan};
use std::ops::Range;

/// A program with its launches bound to the arena.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) program: Program,
    pub(super) plan: ProgramPlan,
    pub(super) sequence: Sequence,
    /// The launches of each operation.
    pub(super) launches: Vec<Range<usize>>,
}

impl Compiled {
    pub(super) fn new(
        device: &Device,
        arena: &[wgpu::Buffer],
        program: Program,
        plan: ProgramPlan,
        launches: Vec<Vec<Launch>>,
    ) -> Result<Self, Error> {
        let mut end = 0;
        let ranges = launches
            .iter()
            .map(|list| {
                let start = end;
                end += list.len();
                start..end
            })
            .collect();
        let buffers: Vec<&wgpu::Buffer> = arena.iter().collect();
        let sequence = Sequence::prepare(device, &launches.concat(), &buffers)?;
        Ok(Self {
            program,
            plan,
            sequence,
            launches: ranges,
        })
    }

    pub(super) fn place(&self, id: ValueId) -> Result<Place, Error> {
        let unknown = || Error::UnknownValue {
            name: self.program.value(id).name.clone(),
        };
        self.plan.values[id.0].ok_or_else(unknown)
    }

    /// The id and place of a value, by its name.
    pub(super) fn find(&self, name: &str) -> Result<(ValueId, Place), Error> {
        let id = self
            .program
            .find(name)
            .ok_or_else(|| Error::UnknownValue { name: name.into() })?;
        Ok((id, self.place(id)?))
    }
}
