use crate::Error;
use smidgen_gpu::{Device, DeviceKind, Launch, Sequence, wgpu};
use smidgen_graph::{Program, Role, ValueId};
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
    /// The launches of each submission of a step.
    submissions: Vec<Range<usize>>,
    /// Those of a micro-batch before the last, which does not update.
    sums_only: Vec<Range<usize>>,
    /// What is zero before the first micro-batch.
    pub(super) sums: Vec<Place>,
}

/// On a GPU, a step is submitted in so many parts: the device begins with the first while the host records the others. More would cost
/// more to submit than they overlap.
const PARTS: usize = 6;

/// The launches of each submission of a step of `count` launches. A software device computes on the cores that record, and has nothing
/// to gain.
fn submissions(kind: DeviceKind, count: usize) -> Vec<Range<usize>> {
    let parts = if kind == DeviceKind::Software {
        1
    } else {
        PARTS.min(count).max(1)
    };
    (0..parts)
        .map(|part| part * count / parts..(part + 1) * count / parts)
        .collect()
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
        let ranges: Vec<Range<usize>> = launches
            .iter()
            .map(|list| {
                let start = end;
                end += list.len();
                start..end
            })
            .collect();
        let updates = ranges.get(program.first_update());
        let updates = updates.map_or(end, |launches| launches.start);
        let sums = program.values.iter().zip(&plan.values);
        let sums = sums.filter(|(value, _)| value.role == Role::GradientSum);
        let buffers: Vec<&wgpu::Buffer> = arena.iter().collect();
        let sequence = Sequence::prepare(device, &launches.concat(), &buffers)?;
        Ok(Self {
            submissions: submissions(device.facts().kind, sequence.len()),
            sums_only: submissions(device.facts().kind, updates),
            sums: sums.filter_map(|(_, place)| *place).collect(),
            program,
            plan,
            sequence,
            launches: ranges,
        })
    }

    /// The launches of each submission of a part of a step.
    pub(super) fn submissions(&self, last: bool) -> &[Range<usize>] {
        if last {
            &self.submissions
        } else {
            &self.sums_only
        }
    }

    /// The operations of a part of a step.
    pub(super) fn operations(&self, last: bool) -> Range<usize> {
        let all = self.program.operations.len();
        0..if last {
            all
        } else {
            self.program.first_update()
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn submissions_hold_every_launch_once_in_order() {
        for count in [0, 1, 5, 6, 7, 274] {
            for kind in [DeviceKind::Software, DeviceKind::Discrete] {
                let parts = submissions(kind, count);
                let launches: Vec<usize> = parts.iter().flat_map(Clone::clone).collect();
                assert_eq!(launches, (0..count).collect::<Vec<_>>());
                assert!((1..=PARTS).contains(&parts.len()));
            }
        }
        assert_eq!(submissions(DeviceKind::Software, 274).len(), 1);
        assert_eq!(submissions(DeviceKind::Discrete, 274).len(), PARTS);
    }
}
