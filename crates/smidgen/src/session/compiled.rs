use super::memory::Batch;
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
    /// The launches of each submission of a part of a step, by whether it is the first, which prepares, and whether it is the last, which
    /// updates.
    submissions: [[Vec<Range<usize>>; 2]; 2],
    /// What is zero before the first micro-batch.
    pub(super) sums: Vec<Place>,
}

/// On a GPU, a step is submitted in so many parts: the device begins with the first while the host records the others. More would cost
/// more to submit than they overlap.
const PARTS: usize = 6;

/// The launches of a part of a step, by whether it is the first, which prepares, and whether it is the last, which updates; from those of each
/// operation.
fn by_part(program: &Program, launches: &[Range<usize>]) -> [[Range<usize>; 2]; 2] {
    let end = launches.last().map_or(0, |list| list.end);
    let from = |operation: usize| launches.get(operation).map_or(end, |list| list.start);
    let (part, updates) = (from(program.first_of_part()), from(program.first_update()));
    [part, 0].map(|first| [updates, end].map(|last| first..last))
}

/// These launches, divided among submissions. A software device computes on the cores that record, and has nothing to gain.
fn submissions(kind: DeviceKind, launches: Range<usize>) -> Vec<Range<usize>> {
    let count = launches.len();
    let parts = if kind == DeviceKind::Software {
        1
    } else {
        PARTS.min(count).max(1)
    };
    (0..parts)
        .map(|part| {
            launches.start + part * count / parts..launches.start + (part + 1) * count / parts
        })
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
        let sums = program.values.iter().zip(&plan.values);
        let sums = sums.filter(|(value, _)| value.role == Role::GradientSum);
        let buffers: Vec<&wgpu::Buffer> = arena.iter().collect();
        let sequence = Sequence::prepare(device, &launches.concat(), &buffers)?;
        let kind = device.facts().kind;
        Ok(Self {
            submissions: by_part(&program, &ranges)
                .map(|parts| parts.map(|launches| submissions(kind, launches))),
            sums: sums.filter_map(|(_, place)| *place).collect(),
            program,
            plan,
            sequence,
            launches: ranges,
        })
    }

    /// The launches of each submission of a part of a step.
    pub(super) fn submissions(&self, part: &Batch<'_>) -> &[Range<usize>] {
        &self.submissions[usize::from(part.is_first())][usize::from(part.is_last())]
    }

    /// The operations of a part of a step.
    pub(super) fn operations(&self, part: &Batch<'_>) -> Range<usize> {
        let program = &self.program;
        let first = if part.is_first() {
            0
        } else {
            program.first_of_part()
        };
        let end = if part.is_last() {
            program.operations.len()
        } else {
            program.first_update()
        };
        first..end
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
    use crate::{FilterState, Training, zoo};
    use smidgen_graph::{ExampleMemory, Lowering, Mode, OperationKind};

    #[test]
    fn submissions_hold_every_launch_once_in_order() {
        for (first, end) in [(0, 0), (0, 1), (0, 5), (3, 9), (0, 7), (2, 274)] {
            for kind in [DeviceKind::Software, DeviceKind::Discrete] {
                let parts = submissions(kind, first..end);
                let launches: Vec<usize> = parts.iter().flat_map(Clone::clone).collect();
                assert_eq!(launches, (first..end).collect::<Vec<_>>());
                assert!((1..=PARTS).contains(&parts.len()));
            }
        }
        assert_eq!(submissions(DeviceKind::Software, 0..274).len(), 1);
        assert_eq!(submissions(DeviceKind::Discrete, 0..274).len(), PARTS);
    }

    #[test]
    fn taps_are_summed_once_a_step_and_what_reads_the_sums_runs_in_every_part() {
        let mut graph = zoo::build("resnet20", 10, [3, 32, 32]).unwrap();
        graph.filter_last(4, 2).unwrap();
        let lowered = |micro_batches| {
            let mode = Mode::Train {
                optimizer: Training::default().optimizer,
                label_smoothing: 0.0,
                clip_norm: None,
                keep_gradients: false,
                filter_state: FilterState::Tap,
                examples: ExampleMemory::default(),
                micro_batches,
            };
            graph.lower(&Lowering { batch: 2, mode }).unwrap()
        };
        for parts in [1, 4] {
            let program = lowered(parts);
            let count = program.operations.len();
            let launches: Vec<Range<usize>> = (0..count).map(|at| 2 * at..2 * at + 2).collect();
            let by_part = by_part(&program, &launches);
            let mut runs = vec![0; 2 * count];
            for part in 0..parts {
                let range = &by_part[usize::from(part == 0)][usize::from(part + 1 == parts)];
                range.clone().for_each(|launch| runs[launch] += 1);
            }
            let mut summed = 0;
            for (at, operation) in program.operations.iter().enumerate() {
                let expected = match operation.kind {
                    OperationKind::FilterTapSums { .. } | OperationKind::Update { .. } => 1,
                    _ => parts,
                };
                summed += usize::from(matches!(
                    operation.kind,
                    OperationKind::FilterTapSums { .. }
                ));
                assert_eq!(program.runs(operation), expected, "{operation:?}");
                assert_eq!(runs[launches[at].clone()], [expected; 2], "{operation:?}");
            }
            assert_eq!(summed, 4);
        }
    }
}
