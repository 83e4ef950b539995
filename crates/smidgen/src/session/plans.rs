use super::draft::Draft;
use super::remedies::remedies;
use super::{Blueprint, PlanFile, SessionOptions, growth, settle};
use crate::tuning::{Measurements, Source, Tuning};
use crate::{Bytes, Error, kernels};
use serde::Serialize;
use smidgen_gpu::{Device, DeviceFacts};
use smidgen_graph::Graph;
use smidgen_graph::forms::{Form, Forms, Outline};
use smidgen_plan::{Choice, Costs, Planner, Preset};
use std::sync::OnceLock;

/// Every plan worth having for a network on a device, from the fastest to the smallest.
#[derive(Debug)]
pub struct Plans {
    draft: Draft,
    choices: Vec<Choice>,
    /// By choice: everything that its session reserves without workspace that a variant could do without, once somebody asked.
    totals: Vec<OnceLock<Bytes>>,
    /// Bytes that every plan needs beside the arena, at least.
    beside: u64,
    /// Bytes of the arena's persistent part.
    persistent: u64,
}

/// A plan in a race.
pub(super) struct Contender {
    pub(super) name: String,
    pub(super) blueprint: Blueprint,
}

/// One plan in a table of plans.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlanPoint {
    /// The budget it needs, everything counted.
    pub bytes: Bytes,
    /// Predicted seconds of a step.
    pub seconds: f64,
    /// The predicted error of what the backward pass decodes: squared, by the square of the value, the mean over all stashes that may
    /// be lossy. 0: exact.
    pub variance: f64,
    /// The form of every stash that is not whole.
    pub forms: Forms,
}

/// What a plan takes that holds every stash whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WholePlan {
    /// Everything that is reserved.
    pub reserved: Bytes,
    /// Bytes of the stashes and of what stands from step to step.
    pub held: u64,
    /// Predicted seconds of a step.
    pub seconds: f64,
}

/// How a plan holds one stash.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StashPoint {
    /// Name of the value.
    pub value: String,
    /// The layer that makes it; empty for the pictures.
    pub layer: String,
    /// Its form.
    pub form: Form,
    /// Its bytes when whole.
    pub whole_bytes: u64,
    /// Its bytes on the stack in this form.
    pub held_bytes: u64,
    /// What holding this stash whole would save of a step, in predicted seconds, all others as they are.
    pub seconds: f64,
}

impl Plans {
    /// Plans `graph` for a device of which only the facts are needed. The budget of `options` is not looked at.
    ///
    /// # Errors
    /// A network that cannot be lowered, a batch of 0, or a tensor larger than the device binds.
    pub fn new(
        graph: &Graph,
        facts: &DeviceFacts,
        options: &SessionOptions,
    ) -> Result<Self, Error> {
        let rule = Measurements::default();
        Self::of(Draft::new(graph, facts, options, Source::Measured(&rule))?)
    }

    /// The same with the kernels and the costs that are measured on the device, as `tuning` says.
    ///
    /// # Errors
    /// As [`new`](Self::new), or the device failed.
    pub fn measured(
        device: &Device,
        graph: &Graph,
        options: &SessionOptions,
        tuning: &Tuning,
    ) -> Result<Self, Error> {
        let options = SessionOptions {
            budget: None,
            ..options.settling_filter_state(options.budget.is_some())
        };
        let settled = settle(device, graph, &options, tuning, true, &mut |_, _| {})?;
        settled
            .plans
            .map_or_else(|| Self::new(graph, device.facts(), &options), Ok)
    }

    pub(super) fn of(draft: Draft) -> Result<Self, Error> {
        let whole = draft.blueprint(&Forms::new(), &draft.leanest)?;
        let choices = with_policies(&draft)?;
        let beside = whole.footprint.total().0 - whole.footprint.arena - whole.footprint.rounding;
        let persistent = whole.plan.programs[0].peak.persistent;
        Ok(Self {
            draft,
            totals: vec![OnceLock::new(); choices.len()],
            choices,
            beside,
            persistent,
        })
    }

    /// The table: what each plan needs and how long its step is predicted to take, by falling bytes and so by rising time.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn points(&self) -> Result<Vec<PlanPoint>, Error> {
        let mut points: Vec<PlanPoint> = Vec::new();
        let all: Vec<usize> = (0..self.choices.len()).collect();
        for together in all.chunks(threads()) {
            let lower = |at: &usize| {
                let bound = self.bound(&self.choices[*at]);
                points.last().is_none_or(|faster| bound < faster.bytes.0)
            };
            let wanted: Vec<usize> = together.iter().copied().filter(lower).collect();
            self.ask_together(&wanted)?;
            for at in wanted {
                let (choice, bytes) = (&self.choices[at], self.total(at)?);
                // What packing or a page more takes away may leave a slower plan no smaller: then it is not worth having.
                if points.last().is_none_or(|faster| bytes < faster.bytes) {
                    points.push(PlanPoint {
                        bytes,
                        seconds: choice.seconds,
                        variance: choice.variance,
                        forms: choice.forms.clone(),
                    });
                }
            }
        }
        Ok(points)
    }

    /// The fastest plan that needs no more than `budget`.
    ///
    /// # Errors
    /// A budget below the least that would do, with that least and what would fit.
    pub fn within(
        &self,
        graph: &Graph,
        options: &SessionOptions,
        budget: Bytes,
    ) -> Result<Blueprint, Error> {
        for (at, choice) in self.choices.iter().enumerate() {
            if self.bound(choice) > budget.0 || self.total(at)? > budget {
                continue;
            }
            for variants in [&self.draft.fastest, &self.draft.leanest] {
                let blueprint = self.draft.blueprint(&choice.forms, variants)?;
                if blueprint.footprint.total() <= budget {
                    return Ok(blueprint);
                }
            }
        }
        let least = self.least()?;
        Err(Error::BudgetTooSmall {
            budget,
            least: least.footprint.total(),
            batch: options.batch,
            operation: least.binding_layer(),
            remedies: remedies(graph, &self.draft.facts, options, budget),
        })
    }

    /// Predicted seconds of a step of the fastest plan that needs no more than `budget`; `None` if none does.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn seconds_within(&self, budget: Bytes) -> Result<Option<f64>, Error> {
        for (at, choice) in self.choices.iter().enumerate() {
            if self.bound(choice) <= budget.0 && self.total(at)? <= budget {
                return Ok(Some(choice.seconds));
            }
        }
        Ok(None)
    }

    /// Whether any plan needs no more than `budget`.
    pub(super) fn any_within(&self, budget: Bytes) -> Result<bool, Error> {
        for at in self.by_bound() {
            if self.bound(&self.choices[at]) > budget.0 {
                break;
            }
            if self.total(at)? <= budget {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A session that holds every stash whole and takes no workspace that it could do without.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn whole(
        graph: &Graph,
        facts: &DeviceFacts,
        options: &SessionOptions,
    ) -> Result<WholePlan, Error> {
        let rule = Measurements::default();
        let draft = Draft::new(graph, facts, options, Source::Measured(&rule))?;
        let blueprint = draft.blueprint(&Forms::new(), &draft.leanest)?;
        let stashes = draft.outline.stashes().iter();
        Ok(WholePlan {
            reserved: blueprint.footprint.total(),
            held: blueprint.plan.programs[0].peak.persistent
                + stashes.map(|stash| stash.bytes).sum::<u64>(),
            seconds: draft.planner()?.weigh(Forms::new())?.seconds,
        })
    }

    /// What is worth racing within `budget`: the plan that is predicted to be the fastest, the fastest that is exact, and the trivial ones as
    /// far as they fit and are allowed.
    pub(super) fn contenders(
        &self,
        graph: &Graph,
        options: &SessionOptions,
        budget: Bytes,
    ) -> Result<(Blueprint, Vec<Contender>), Error> {
        let planner = self.draft.planner()?;
        let planned = self.within(graph, options, budget)?;
        let mut contenders: Vec<Contender> = Vec::new();
        let mut enter = |name: &str, choice: &Choice| -> Result<bool, Error> {
            let mut others = contenders.iter().map(|other| &other.blueprint);
            let known = planned.forms == choice.forms
                || others.any(|blueprint| blueprint.forms == choice.forms);
            if known || self.bound(choice) > budget.0 || choice.variance > self.draft.quality {
                return Ok(known);
            }
            for variants in [&self.draft.fastest, &self.draft.leanest] {
                let blueprint = self.draft.blueprint(&choice.forms, variants)?;
                if blueprint.footprint.total() <= budget {
                    let name = name.to_owned();
                    contenders.push(Contender { name, blueprint });
                    return Ok(true);
                }
            }
            Ok(false)
        };
        for choice in self.choices.iter().filter(|choice| choice.variance <= 0.0) {
            if enter("planned, exact", choice)? {
                break;
            }
        }
        for preset in Preset::TRIVIAL {
            let forms = preset.forms(&planner, &self.draft.outline);
            // A network may not allow it.
            if let Ok(choice) = planner.weigh(forms) {
                enter(preset.name(), &choice)?;
            }
        }
        Ok((planned, contenders))
    }

    /// The plan that needs the least.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn least(&self) -> Result<Blueprint, Error> {
        let by_bound = self.by_bound();
        let mut least: Option<(Bytes, usize)> = None;
        for together in by_bound.chunks(threads()) {
            let lower = |at: &usize| {
                let bound = self.bound(&self.choices[*at]);
                least.is_none_or(|(bytes, _)| bound < bytes.0)
            };
            let wanted: Vec<usize> = together.iter().copied().filter(lower).collect();
            if wanted.is_empty() {
                break;
            }
            self.ask_together(&wanted)?;
            for at in wanted {
                let bytes = self.total(at)?;
                if least.is_none_or(|(known, _)| bytes < known) {
                    least = Some((bytes, at));
                }
            }
        }
        let whole = Forms::new();
        self.lean(least.map_or(&whole, |(_, at)| &self.choices[at].forms))
    }

    /// A published policy on this network. Its lossy forms are open to it where `quality` is above 0.
    ///
    /// # Errors
    /// As [`new`](Self::new), or a policy that this network does not allow.
    pub fn preset(&self, preset: Preset) -> Result<Blueprint, Error> {
        let forms = preset.forms(&self.draft.planner()?, &self.draft.outline);
        self.lean(&forms)
    }

    /// Predicted seconds of a step with these forms.
    ///
    /// # Errors
    /// Forms that this network does not allow.
    pub fn seconds(&self, forms: &Forms) -> Result<f64, Error> {
        Ok(self.draft.planner()?.weigh(forms.clone())?.seconds)
    }

    /// The predicted error of what the backward pass decodes with these forms, as [`PlanPoint::variance`] tells it.
    ///
    /// # Errors
    /// Forms that this network does not allow.
    pub fn variance(&self, forms: &Forms) -> Result<f64, Error> {
        Ok(self.draft.planner()?.weigh(forms.clone())?.variance)
    }

    /// A plan of this network, batch and device, to be written down.
    #[must_use]
    pub fn file(&self, forms: &Forms) -> PlanFile {
        PlanFile::new(&self.draft.programs[0], self.draft.limits, forms)
    }

    /// Predicted seconds of every operation of the main program of a blueprint, in a step.
    pub(crate) fn operation_seconds(&self, blueprint: &Blueprint) -> Vec<f64> {
        let program = &blueprint.programs[0];
        let operations = program.operations.iter();
        operations
            .map(|operation| {
                f64::from(program.runs(operation)) * self.draft.costs.seconds(program, operation)
            })
            .collect()
    }

    /// How a plan of this network, batch and device holds every stash, in the order in which they are made.
    ///
    /// # Errors
    /// Forms that this network does not allow: the plan is of another.
    pub fn explain(&self, forms: &Forms) -> Result<Vec<StashPoint>, Error> {
        let planner = self.draft.planner()?;
        let program = &self.draft.programs[0];
        let seconds = planner.weigh(forms.clone())?.seconds;
        let points = self.draft.outline.stashes().iter().map(|stash| {
            let form = forms.get(&stash.value).copied().unwrap_or(Form::Whole);
            let mut others = forms.clone();
            others.remove(&stash.value);
            let producer = stash
                .producer
                .map(|at| program.operations[at].layer.clone());
            Ok(StashPoint {
                value: program.value(stash.value).name.clone(),
                layer: producer.unwrap_or_default(),
                form,
                whole_bytes: stash.bytes,
                held_bytes: planner.held(stash.value, form),
                seconds: seconds - planner.weigh(others)?.seconds,
            })
        });
        points.collect()
    }

    /// The session with these forms and no workspace that a variant could do without.
    fn lean(&self, forms: &Forms) -> Result<Blueprint, Error> {
        self.draft.blueprint(forms, &self.draft.leanest)
    }

    /// Everything that such a session reserves with the forms of a choice.
    fn total(&self, choice: usize) -> Result<Bytes, Error> {
        if let Some(bytes) = self.totals[choice].get() {
            return Ok(*bytes);
        }
        let bytes = self.lean(&self.choices[choice].forms)?.footprint.total();
        Ok(*self.totals[choice].get_or_init(|| bytes))
    }

    /// Works out the totals of these choices at the same time.
    fn ask_together(&self, choices: &[usize]) -> Result<(), Error> {
        std::thread::scope(|scope| {
            for &at in choices.iter().skip(1) {
                // What fails does so again when it is asked for.
                scope.spawn(move || _ = self.total(at));
            }
            choices.first().map(|at| self.total(*at)).transpose()
        })?;
        Ok(())
    }

    /// The choices, those first that may need the least.
    fn by_bound(&self) -> Vec<usize> {
        let mut by_bound: Vec<usize> = (0..self.choices.len()).collect();
        by_bound.sort_by_key(|at| self.bound(&self.choices[*at]));
        by_bound
    }

    /// No session with these forms needs less.
    fn bound(&self, choice: &Choice) -> u64 {
        self.beside + self.persistent + choice.height
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |threads| threads.get())
}

/// The choices of the planner, and what others have published: how well a plan packs is not known before it is packed, and a policy may pack better
/// than what should be lower.
fn with_policies(draft: &Draft) -> Result<Vec<Choice>, Error> {
    let planner = draft.planner()?;
    let mut choices = planner.curve(draft.quality);
    if draft
        .outline
        .stashes()
        .iter()
        .any(|stash| stash.offloadable)
    {
        // More forms to choose among may hide a good plan from the search: what the device can do alone is not lost by it.
        let alone = draft
            .outline
            .clone()
            .with_host(&draft.programs[0], 0, 1, u64::MAX);
        choices.extend(draft.planner_of(&alone)?.curve(draft.quality));
    }
    choices.extend(policies(draft, &planner));
    choices.sort_by(|left, right| left.seconds.total_cmp(&right.seconds));
    Ok(choices)
}

/// What others have published, as far as the network and the quality allow it.
pub(super) fn policies(draft: &Draft, planner: &Planner<'_>) -> Vec<Choice> {
    let unbiased = Preset::ALL.iter().filter(|preset| preset.is_unbiased());
    let weighed = unbiased.filter_map(|preset| {
        let forms = preset.forms(planner, &draft.outline);
        planner.weigh(forms).ok()
    });
    weighed
        .filter(|choice| choice.variance <= draft.quality)
        .collect()
}

impl Draft {
    pub(super) fn planner(&self) -> Result<Planner<'_>, Error> {
        self.planner_of(&self.outline)
    }

    fn planner_of<'a>(&'a self, outline: &'a Outline) -> Result<Planner<'a>, Error> {
        let (program, lean) = (&self.programs[0], &self.by_rule);
        let mut workspaces = kernels::workspaces(program, &self.facts, lean)?;
        if let Some(growth) = self.growth() {
            let needed = kernels::workspaces(growth, &self.facts, lean)?;
            growth::add_needs(&mut workspaces, program, growth, &needed);
        }
        Ok(Planner::new(
            &self.programs[0],
            outline,
            &workspaces,
            self.limits.alignment,
            &self.costs,
        ))
    }
}
