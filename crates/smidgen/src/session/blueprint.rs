use super::SessionOptions;
use super::draft::Draft;
use super::plans::Plans;
use crate::tuning::{Choices, Measurements, Source};
use crate::{Error, Footprint};
use smidgen_gpu::{DeviceFacts, Launch};
use smidgen_graph::forms::{Form, FormError, Forms};
use smidgen_graph::{Graph, Program};
use smidgen_plan::Plan;
use std::collections::BTreeMap;

/// A session before anything is reserved: what it will run and what it will need.
#[derive(Debug)]
pub struct Blueprint {
    pub(crate) programs: Vec<Program>,
    pub(super) plan: Plan,
    pub(crate) launches: Vec<Vec<Vec<Launch>>>,
    /// What changes the masks of sparse layers, between two steps.
    pub(super) mutations: Vec<Launch>,
    pub(super) footprint: Footprint,
    pub(super) staging_bytes: u64,
    pub(super) forms: Forms,
    pub(super) stashes: usize,
    pub(super) choices: Choices,
}

impl Blueprint {
    /// Plans `graph` for a device of which only the facts are needed: the fastest plan within the budget, if one is named; else the
    /// plan that keeps every stash whole.
    ///
    /// # Errors
    /// A network that cannot be lowered, a batch of 0, a tensor larger than the device binds, or a budget below the least that
    /// would do.
    pub fn new(
        graph: &Graph,
        facts: &DeviceFacts,
        options: &SessionOptions,
    ) -> Result<Self, Error> {
        let rule = Measurements::default();
        let draft = Draft::new(graph, facts, options, Source::Measured(&rule))?;
        if let Some(plan) = (options.training.as_ref()).and_then(|training| training.plan.as_ref())
        {
            return draft.recorded(plan, options);
        }
        let whole = draft.blueprint(&Forms::new(), &draft.fastest)?;
        match options.budget {
            Some(budget) if whole.footprint.total() > budget => {
                Plans::of(draft)?.within(graph, options, budget)
            }
            _ => Ok(whole),
        }
    }

    /// Plans `graph` with the stashes of these names held in these forms, lossy ones among them, and kernels that need no workspace. What it needs is not
    /// compared with a budget.
    pub(crate) fn holding(
        graph: &Graph,
        facts: &DeviceFacts,
        options: &SessionOptions,
        forms: &BTreeMap<String, Form>,
    ) -> Result<Self, Error> {
        let mut options = options.clone();
        if let Some(training) = &mut options.training {
            training.quality = 1.0;
        }
        let rule = Measurements::default();
        let draft = Draft::new(graph, facts, &options, Source::Measured(&rule))?;
        let named = forms.iter().map(|(name, form)| {
            let id = (draft.programs[0].find(name)).ok_or_else(|| FormError::NoStash {
                value: name.clone(),
            })?;
            Ok::<_, Error>((id, *form))
        });
        draft.blueprint(&named.collect::<Result<_, _>>()?, &draft.leanest)
    }

    /// Every byte the session will reserve.
    #[must_use]
    pub fn footprint(&self) -> &Footprint {
        &self.footprint
    }

    /// The training program, or that of evaluation in a session that does not train.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.programs[0]
    }

    /// Where every tensor will stand.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The form of every stash that is not whole. The values are those of the program in which all are.
    #[must_use]
    pub fn forms(&self) -> &Forms {
        &self.forms
    }

    /// The layer at which the session needs the most memory.
    pub(super) fn binding_layer(&self) -> String {
        let programs = self.programs.iter().zip(&self.plan.programs).rev();
        let highest = programs.max_by_key(|(_, plan)| plan.peak.height);
        let operation =
            highest.and_then(|(program, plan)| program.operations.get(plan.peak.operation));
        operation.map_or_else(String::new, |operation| operation.layer.clone())
    }
}
