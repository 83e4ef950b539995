//! What a session is to run, settled on the device.

use super::draft::{Draft, shape_classes};
use super::plans::Plans;
use super::race::race;
use super::{Blueprint, SessionOptions};
use crate::Error;
use crate::tuning::{self, Measurements, Source, Tuning, TuningReport};
use smidgen_gpu::Device;
use smidgen_graph::Graph;
use smidgen_graph::forms::Forms;

/// A blueprint with what was found out on the way to it.
pub(crate) struct Settled {
    pub(crate) blueprint: Blueprint,
    pub(crate) report: TuningReport,
    /// Where they were made: all plans, weighed with what was measured.
    pub(crate) plans: Option<Plans>,
}

/// Chooses kernels and forms as `tuning` says. `explain` asks for all plans even where keeping everything fits the budget.
pub(crate) fn settle(
    device: &Device,
    graph: &Graph,
    options: &SessionOptions,
    tuning: &Tuning,
    explain: bool,
    on_progress: &mut dyn FnMut(usize, usize),
) -> Result<Settled, Error> {
    let facts = device.facts();
    let rule = Measurements::default();
    let source = match tuning {
        Tuning::Recorded(choices) => Source::Recorded(choices),
        _ => Source::Measured(&rule),
    };
    // Before anything is measured, so that a budget that cannot do costs no time.
    let draft = Draft::new(graph, facts, options, source)?;
    let written = (options.training.as_ref()).and_then(|training| training.plan.as_ref());
    let whole = draft.blueprint(&Forms::new(), &draft.fastest)?;
    let fits =
        |whole: &Blueprint| (options.budget).is_none_or(|budget| whole.footprint.total() <= budget);
    let (planned, plans) = if let Some(plan) = written {
        (draft.recorded(plan, options)?, None)
    } else if fits(&whole) && !explain {
        (whole, None)
    } else {
        let plans = Plans::of(draft)?;
        let blueprint = match options.budget {
            Some(budget) => plans.within(graph, options, budget)?,
            None => whole,
        };
        (blueprint, Some(plans))
    };
    options.limit(device);
    let Tuning::On { cache } = tuning else {
        let report = match tuning {
            Tuning::Recorded(choices) => TuningReport::of_record(choices, &planned.choices),
            _ => TuningReport::default(),
        };
        return Ok(Settled {
            blueprint: planned,
            report,
            plans,
        });
    };
    let cache = cache.as_deref();
    let classes = shape_classes(&planned.programs);
    let (measured, mut report) =
        tuning::measure(device, &classes, options.budget, cache, on_progress)?;
    let mut draft = Draft::new(graph, facts, options, Source::Measured(&measured))?;
    let whole = match written {
        Some(plan) => draft.recorded(plan, options)?,
        None => draft.blueprint(&Forms::new(), &draft.fastest)?,
    };
    if written.is_some() || fits(&whole) && !explain {
        return Ok(Settled {
            blueprint: whole,
            report,
            plans: None,
        });
    }
    let operations = draft.operations()?;
    let costs = draft.costs.clone();
    (draft.costs, report.costs) =
        costs.measure(device, &operations, options.budget, cache, on_progress)?;
    let plans = Plans::of(draft)?;
    let blueprint = match options.budget.filter(|_| !fits(&whole)) {
        None => whole,
        Some(budget) => {
            match plans.contenders(graph, options, budget) {
                Ok((planned, contenders)) => {
                    let (winner, times) = race(device, planned, contenders)?;
                    report.race = times;
                    winner
                }
                // Measured variants may need a little more than the rule's, whose plan fits.
                Err(Error::BudgetTooSmall { .. } | Error::PlanOverBudget { .. }) => planned,
                Err(error) => return Err(error),
            }
        }
    };
    Ok(Settled {
        blueprint,
        report,
        plans: Some(plans),
    })
}
