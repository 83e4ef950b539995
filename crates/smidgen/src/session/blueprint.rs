use super::memory::{STAGING_BUFFERS, TRANSFER_BYTES, upload_bytes};
use super::{STEPS_IN_FLIGHT, SessionOptions};
use crate::{Error, Footprint, Metrics, kernels};
use smidgen_gpu::{DeviceFacts, Launch, Sequence};
use smidgen_graph::{Graph, Lowering, Mode, Program};
use smidgen_plan::{Limits, Plan};

/// A session before anything is reserved: what it will run and what it will need.
#[derive(Debug)]
pub struct Blueprint {
    pub(super) programs: Vec<Program>,
    pub(super) plan: Plan,
    pub(super) launches: Vec<Vec<Vec<Launch>>>,
    pub(super) footprint: Footprint,
    pub(super) staging_bytes: u64,
}

impl Blueprint {
    /// Plans `graph` for a device of which only the facts are needed.
    ///
    /// # Errors
    /// A network that cannot be lowered, a batch of 0, or a tensor larger than the device binds.
    pub fn new(
        graph: &Graph,
        facts: &DeviceFacts,
        options: &SessionOptions,
    ) -> Result<Self, Error> {
        if options.batch == 0 {
            return Err(Error::EmptyBatch);
        }
        let mut modes = vec![Mode::Evaluate];
        if let Some(training) = &options.training {
            modes.insert(
                0,
                Mode::Train {
                    optimizer: training.optimizer,
                    label_smoothing: training.label_smoothing,
                    clip_norm: training.clip_norm,
                    keep_gradients: training.keep_gradients,
                },
            );
        }
        let programs = modes
            .into_iter()
            .map(|mode| {
                graph.lower(&Lowering {
                    batch: options.batch,
                    mode,
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let limits = Limits {
            alignment: facts.storage_alignment.max(256),
            max_binding_bytes: facts.max_binding_bytes,
            max_buffer_bytes: facts.max_buffer_bytes / 256 * 256,
        };
        let workspaces = programs
            .iter()
            .map(|program| kernels::workspaces(program, facts))
            .collect::<Result<Vec<_>, _>>()?;
        let plan = Plan::new(&programs.iter().collect::<Vec<_>>(), &workspaces, limits)?;
        let launches = programs
            .iter()
            .zip(&plan.programs)
            .map(|(program, places)| kernels::launches(program, places, limits, facts))
            .collect::<Result<Vec<_>, _>>()?;
        let uniforms: Vec<u64> = launches
            .iter()
            .map(|list| Sequence::uniform_bytes(&list.concat(), facts.uniform_alignment))
            .collect();
        let staging_bytes = upload_bytes(&programs[0]).max(TRANSFER_BYTES);
        let readback = [
            vec![Metrics::BYTES; STEPS_IN_FLIGHT],
            vec![TRANSFER_BYTES; STAGING_BUFFERS],
        ]
        .concat();
        let footprint = Footprint::new(
            facts,
            &plan.buffers(),
            &uniforms,
            &[staging_bytes; STAGING_BUFFERS],
            &readback,
        );
        Ok(Self {
            programs,
            plan,
            launches,
            footprint,
            staging_bytes,
        })
    }

    /// Every byte the session will reserve.
    #[must_use]
    pub fn footprint(&self) -> &Footprint {
        &self.footprint
    }

    /// Where every tensor will stand.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Refuses a budget that is too small, naming the least that would do and the batch that would fit.
    pub(super) fn check_budget(
        &self,
        graph: &Graph,
        facts: &DeviceFacts,
        options: &SessionOptions,
    ) -> Result<(), Error> {
        let least = self.footprint.total();
        let Some(budget) = options.budget.filter(|budget| *budget < least) else {
            return Ok(());
        };
        let peak = &self.plan.programs[0].peak;
        let operation = self.programs[0]
            .operations
            .get(peak.operation)
            .map_or_else(String::new, |o| o.layer.clone());
        let fits = |batch: &u32| {
            let smaller = SessionOptions {
                batch: *batch,
                budget: None,
                ..options.clone()
            };
            Self::new(graph, facts, &smaller)
                .is_ok_and(|blueprint| blueprint.footprint.total() <= budget)
        };
        // The footprint grows with the batch: the largest that fits is found by bisection.
        let (mut low, mut high) = (0, options.batch);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if fits(&middle) {
                low = middle
            } else {
                high = middle
            }
        }
        Err(Error::BudgetTooSmall {
            budget,
            least,
            batch: options.batch,
            operation,
            fitting_batch: (low > 0).then_some(low),
        })
    }
}
