use super::growth::{self, GROWTH};
use super::memory::{STAGING_BUFFERS, TRANSFER_BYTES, metrics_bytes, upload_bytes};
use super::roofline::roofline;
use super::slabs;
use super::{Blueprint, Growth, PlanFile, STEPS_IN_FLIGHT, SessionOptions};
use crate::kernels::StashCodes;
use crate::tuning::{Choices, Measurements, OperationCosts, ShapeClass, Source};
use crate::{Bytes, Error, Footprint, kernels};
use smidgen_gpu::{DeviceFacts, Sequence};
use smidgen_graph::forms::{Forms, Outline};
use smidgen_graph::{Graph, Lowering, Mode, Operation, OperationKind, Program};
use smidgen_plan::{Limits, Plan};

/// What a session is to run, before it is settled how its stashes are held.
#[derive(Debug)]
pub(super) struct Draft {
    /// Training first, where there is any; every stash is whole. After evaluation, the step that changes masks by gradients, if one does.
    pub(super) programs: Vec<Program>,
    /// Of the first program.
    pub(super) outline: Outline,
    pub(super) facts: DeviceFacts,
    pub(super) limits: Limits,
    /// The variance that lossy forms may bring; 0 for none.
    pub(super) quality: f64,
    pub(super) costs: OperationCosts,
    /// The variants of kernels, whatever workspace they need.
    pub(super) fastest: Choices,
    /// Those that need none, for a budget that has no room for it.
    pub(super) leanest: Choices,
    /// Those of the rule, whatever was measured, in no room: what plans are made of is the same for a run that goes on with variants
    /// written down.
    pub(super) by_rule: Choices,
}

impl Draft {
    pub(super) fn new(
        graph: &Graph,
        facts: &DeviceFacts,
        options: &SessionOptions,
        source: Source<'_>,
    ) -> Result<Self, Error> {
        let (micro_batches, batch) = options.parts()?;
        let mut modes = vec![Mode::Evaluate];
        if let Some(training) = &options.training {
            modes.insert(
                0,
                Mode::Train {
                    optimizer: training.optimizer,
                    label_smoothing: training.label_smoothing,
                    clip_norm: training.largest_norm(),
                    keep_gradients: training.keep_gradients,
                    filter_state: training.filter_state(options.budget.is_some()),
                    examples: training.examples,
                    micro_batches,
                },
            );
        }
        let half_maps = (options.training.as_ref()).is_some_and(|training| training.half_maps);
        let lower = |mode| {
            let program = graph.lower(&Lowering { batch, mode })?;
            Ok::<_, Error>(if half_maps {
                program.in_halves()
            } else {
                program
            })
        };
        let mut programs = (modes.into_iter().map(lower)).collect::<Result<Vec<_>, _>>()?;
        if (options.training.as_ref()).is_some_and(|training| training.growth == Growth::Gradient) {
            growth::check(graph, micro_batches, half_maps)?;
            programs.push(programs[0].growing());
        }
        let limits = Limits {
            alignment: facts.storage_alignment.max(256),
            max_binding_bytes: facts.max_binding_bytes,
            max_buffer_bytes: facts.max_buffer_bytes / 256 * 256,
        };
        slabs::divide(&mut programs, limits, facts)?;
        let quality = options
            .training
            .as_ref()
            .map_or(0.0, |training| training.quality);
        let mut outline = Outline::new(&programs[0]);
        // A plan that was written down may hold codes, whatever is allowed to the planner.
        let written = (options.training.as_ref()).is_some_and(|training| training.plan.is_some());
        if quality > 0.0 || written {
            outline = outline.with_codes(&programs[0], &StashCodes(programs[0].slabs()));
        }
        if let Some(budget) = options.host_budget() {
            if !facts.host_memory {
                let device = facts.name.clone();
                return Err(Error::NoHostMemory { device });
            }
            // What a written plan holds there is compared with the budget as a whole.
            let bytes = if written { u64::MAX } else { budget.0 };
            outline = outline.with_host(
                &programs[0],
                bytes,
                limits.alignment,
                limits.max_buffer_bytes,
            );
        }
        let classes: Vec<_> = shape_classes(&programs)
            .into_iter()
            .map(|(class, _)| class)
            .collect();
        // No workspace is of use that cannot be bound; in slabs, gradients of weights stand in it beside what the kernel takes.
        let aside = kernels::largest_aside(&programs);
        let room = (limits.max_binding_bytes.min(limits.max_buffer_bytes)).saturating_sub(aside);
        let fastest = source.choose(&classes, facts, room)?;
        let leanest = source.choose(&classes, facts, 0)?;
        let by_rule = Source::Measured(&Measurements::default()).choose(&classes, facts, 0)?;
        // A slice is f32: not what was read of a map in f16 before.
        if !half_maps && programs[0].slabs().count() == 1 {
            outline = outline.with_slices(&programs[0], &|kind| {
                kernels::slices_workspace(kind, facts, &by_rule)
                    .ok()
                    .flatten()
            });
        }
        Ok(Self {
            costs: OperationCosts::predicted(roofline(facts), &fastest),
            fastest,
            leanest,
            by_rule,
            outline,
            quality,
            programs,
            facts: facts.clone(),
            limits,
        })
    }

    /// The session in which stashes are held as a plan says that was written down, within the budget if there is one.
    pub(super) fn recorded(
        &self,
        plan: &PlanFile,
        options: &SessionOptions,
    ) -> Result<Blueprint, Error> {
        let budget = options.budget;
        let forms = plan.forms(self)?;
        let mut blueprint = self.blueprint(&forms, &self.fastest)?;
        let over =
            |blueprint: &Blueprint| budget.filter(|budget| blueprint.footprint.total() > *budget);
        if over(&blueprint).is_some() {
            blueprint = self.blueprint(&forms, &self.leanest)?;
        }
        let on_host = Bytes(blueprint.footprint.host);
        if let Some(budget) = options.host_budget().filter(|budget| on_host > *budget) {
            return Err(Error::PlanOverHostBudget {
                needed: on_host,
                budget,
            });
        }
        match over(&blueprint) {
            None => Ok(blueprint),
            Some(budget) => Err(Error::PlanOverBudget {
                needed: blueprint.footprint.total(),
                budget,
            }),
        }
    }

    /// Every operation that a step may run, alone: those of the main program, those that one kernel may compute in the place of two, and
    /// what forms may ask for beside them.
    pub(super) fn operations(&self) -> Result<Vec<Program>, Error> {
        let program = &self.programs[0];
        let pairs = kernels::fusable(program, &self.facts, &self.fastest)?;
        let fused = program.fused(&pairs);
        let both = |operation: &&Operation| {
            matches!(operation.kind, OperationKind::ConvolutionBackward { .. })
        };
        let fused = fused.operations.iter().filter(both);
        let own = program.operations.iter().chain(fused);
        let own: Vec<Program> = own.map(|operation| program.alone(operation)).collect();
        let again = program.operations.iter();
        let again = again
            .filter(|operation| operation.again() != **operation)
            .map(|operation| program.alone(&operation.again()));
        let own = own.into_iter().chain(again);
        let asked = self.outline.stashes().iter().flat_map(|stash| {
            let passes = program.value(stash.value).layout.map().map(|shape| {
                let passes = stash.passes().into_iter();
                passes.map(move |pass| pass.alone(program, stash, shape))
            });
            passes.into_iter().flatten()
        });
        Ok(own.chain(asked).collect())
    }

    /// The session in which stashes are held in these forms, with these variants of kernels.
    pub(super) fn blueprint(&self, forms: &Forms, choices: &Choices) -> Result<Blueprint, Error> {
        let (facts, limits) = (&self.facts, self.limits);
        let mut programs = self.programs.clone();
        set_main(&mut programs, self.outline.apply(&self.programs[0], forms)?);
        let choices = &self.for_slices(&programs[0], choices)?;
        let plan = self.fuse(&mut programs, choices)?;
        let launches = programs
            .iter()
            .zip(&plan.programs)
            .map(|(program, places)| kernels::launches(program, places, limits, facts, choices))
            .collect::<Result<Vec<_>, _>>()?;
        let mutations = match self.growth() {
            Some(_) => Vec::new(),
            None => kernels::mutations(&programs[0], &plan.programs[0], limits)?,
        };
        let mut uniforms: Vec<u64> = launches
            .iter()
            .map(|list| Sequence::uniform_bytes(&list.concat(), facts.uniform_alignment))
            .collect();
        if !mutations.is_empty() {
            uniforms.push(Sequence::uniform_bytes(&mutations, facts.uniform_alignment));
        }
        let staging_bytes = upload_bytes(&programs[0]).max(TRANSFER_BYTES);
        let readback = [
            vec![metrics_bytes(&programs[0]); STEPS_IN_FLIGHT],
            vec![TRANSFER_BYTES; STAGING_BUFFERS],
        ]
        .concat();
        let footprint = Footprint::new(
            facts,
            &plan.buffers(),
            &uniforms,
            &[staging_bytes; STAGING_BUFFERS],
            &readback,
        )
        .with_host(plan.host_bytes);
        Ok(Blueprint {
            programs,
            plan,
            launches,
            mutations,
            footprint,
            staging_bytes,
            forms: forms.clone(),
            stashes: self.outline.stashes().len(),
            choices: choices.clone(),
        })
    }
}

impl Draft {
    /// These variants, or the rule's of what is computed in slices where these cannot do it to the same bits: slices were opened by the rule.
    fn for_slices(&self, program: &Program, choices: &Choices) -> Result<Choices, Error> {
        let mut choices = choices.clone();
        for kind in program.operations.iter().map(|operation| &operation.kind) {
            if matches!(kind, OperationKind::InSlices { .. })
                && kernels::slices_workspace(kind, &self.facts, &choices)?.is_none()
            {
                for class in kernels::shape_classes(program, kind) {
                    if let Some(variant) = self.by_rule.get(&class) {
                        choices.set(&class, variant);
                    }
                }
            }
        }
        Ok(choices)
    }

    /// Has one kernel compute both gradients of a convolution where one can and the arena does not grow by it: the input of the
    /// convolution has to hold while its gradient is made. The results are the same bits.
    fn fuse(&self, programs: &mut [Program], choices: &Choices) -> Result<Plan, Error> {
        let plan_of = |programs: &[Program]| {
            let workspaces = programs
                .iter()
                .map(|program| kernels::workspaces(program, &self.facts, choices))
                .collect::<Result<Vec<_>, _>>()?;
            let programs: Vec<&Program> = programs.iter().collect();
            Ok::<_, Error>(Plan::new(&programs, &workspaces, self.limits)?)
        };
        let apart = plan_of(programs)?;
        let room = apart.arena_bytes - apart.programs[0].peak.persistent;
        let main = programs[0].clone();
        let mut pairs = kernels::fusable(&main, &self.facts, choices)?;
        while !pairs.is_empty() {
            let fused = main.fused(&pairs);
            // What cannot fit is not worth packing.
            let workspaces = kernels::workspaces(&fused, &self.facts, choices)?;
            let in_use = Plan::in_use(&fused, &workspaces, self.limits);
            let peak = if in_use.iter().all(|bytes| *bytes <= room) {
                set_main(programs, fused);
                let plan = plan_of(programs)?;
                if plan.arena_bytes <= apart.arena_bytes {
                    return Ok(plan);
                }
                plan.programs[0].peak.operation
            } else {
                // Every pair before one has made one operation of two.
                let mut at = 0..;
                let count = pairs.len();
                pairs.retain(|pair| at.next().is_none_or(|at| in_use[pair - at] <= room));
                if pairs.len() < count {
                    continue;
                }
                (0..in_use.len()).max_by_key(|at| in_use[*at]).unwrap_or(0)
            };
            // The pair at the peak, or the nearest to it.
            let nearest = (0..pairs.len()).min_by_key(|at| (pairs[*at] - at).abs_diff(peak));
            pairs.remove(nearest.unwrap_or(0));
        }
        set_main(programs, main);
        Ok(apart)
    }
}

/// Sets the main program, and with it the step that changes masks as it holds its stashes.
fn set_main(programs: &mut [Program], main: Program) {
    if let Some(growth) = programs.get_mut(GROWTH) {
        *growth = main.growing();
    }
    programs[0] = main;
}

/// What variants have to be chosen for, each with how many operations of the main program it stands for.
pub(super) fn shape_classes(programs: &[Program]) -> Vec<(ShapeClass, usize)> {
    let mut classes: Vec<(ShapeClass, usize)> = Vec::new();
    for (at, program) in programs.iter().enumerate() {
        let operations = program.operations.iter();
        for class in
            operations.flat_map(|operation| kernels::shape_classes(program, &operation.kind))
        {
            match classes.iter_mut().find(|(known, _)| *known == class) {
                Some((_, count)) => *count += usize::from(at == 0),
                None => classes.push((class, 1)),
            }
        }
    }
    classes
}
