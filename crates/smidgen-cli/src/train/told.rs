//! What a run tells, of its start, its events and its end.

use crate::micro_batch::describe;
use crate::output::{Output, share};
use serde::Serialize;
use smidgen::forms::Form;
use smidgen::{Bytes, End, Event, FilterPoint, Graph, MaskReport, Optimizer, Session};
use smidgen_recipes::Mest;
use std::path::Path;

#[derive(Serialize)]
#[serde(tag = "event", rename = "start")]
pub(super) struct Start<'a> {
    pub(super) model: &'a str,
    pub(super) parameters: u64,
    pub(super) device: &'a str,
    pub(super) driver: &'a str,
    pub(super) batch: u32,
    pub(super) micro_batch: u32,
    pub(super) step: u64,
    pub(super) steps: u64,
    pub(super) reserved_bytes: u64,
    pub(super) budget_bytes: Option<u64>,
    pub(super) footprint: &'a smidgen::Footprint,
    pub(super) stashes: Stashes,
    pub(super) filtered: &'a [FilterPoint],
    pub(super) stages: &'a [Stage],
    pub(super) imported: Option<Imported>,
}

impl Start<'_> {
    /// For programs and for people.
    pub(super) fn tell(&self, output: &Output, graph: &Graph) {
        output.json(self);
        output.text(&format!(
            "{} ({} parameters) on {}, {}",
            self.model, self.parameters, self.device, self.driver
        ));
        let micro_batches = self.batch / self.micro_batch;
        let budget = self.budget_bytes.map(Bytes);
        output.text(&format!(
            "batch {}, steps {} to {}, device memory {}",
            describe(self.batch, micro_batches),
            self.step,
            self.steps,
            share(Bytes(self.reserved_bytes), budget)
        ));
        if micro_batches > 1 && graph.uses_statistics_of_batches() {
            output.text("batch norms take their statistics over a micro-batch");
        }
        if self.stashes.any() {
            output.text(&self.stashes.to_string());
        }
        if self.footprint.host > 0 {
            let host = Bytes(self.footprint.host);
            output.text(&format!("host memory {host}"));
        }
        for layer in self.filtered {
            output.text(&layer.to_string());
        }
        if let Some(words) = Stage::told(self.stages) {
            output.text(&words);
        }
    }
}

/// What became of the given weights of sparse layers: those that their masks kept, and of these those that found no place in live blocks.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Imported {
    pub(super) kept: usize,
    pub(super) lost: usize,
}

impl Imported {
    pub(super) fn of(reports: &[MaskReport]) -> Option<Self> {
        let sum = |of: fn(&MaskReport) -> usize| reports.iter().map(of).sum();
        (!reports.is_empty()).then(|| Self {
            kept: sum(|report| report.kept),
            lost: sum(|report| report.lost),
        })
    }
}

/// A stage of the schedule of masks.
#[derive(Serialize)]
pub(super) struct Stage {
    epoch: u32,
    density: f64,
    bytes: u64,
}

impl Stage {
    pub(super) fn all_of(recipe: &Mest, optimizer: &Optimizer) -> Vec<Self> {
        let stages = recipe.stages(optimizer.states()).into_iter();
        stages
            .map(|stage| Self {
                epoch: stage.epoch,
                density: stage.density,
                bytes: stage.bytes,
            })
            .collect()
    }

    /// The stages in a line, if there are several.
    fn told(stages: &[Self]) -> Option<String> {
        let told: Vec<String> = stages
            .iter()
            .map(|stage| {
                let percent = 100.0 * stage.density;
                format!(
                    "{percent:.3} % ({}) from epoch {}",
                    Bytes(stage.bytes),
                    stage.epoch
                )
            })
            .collect();
        (told.len() > 1).then(|| format!("live: {}; planned for the most", told.join(", ")))
    }
}

/// How many of the stashes are held in which way.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Stashes {
    whole: usize,
    recomputed: usize,
    coded: usize,
    offloaded: usize,
}

impl Stashes {
    fn any(self) -> bool {
        self.recomputed + self.coded + self.offloaded > 0
    }

    pub(super) fn of(session: &Session) -> Self {
        let forms = session.forms();
        let count = |which: fn(&Form) -> bool| forms.values().filter(|form| which(form)).count();
        let recomputed = count(|form| form.is_made_again());
        let coded = count(|form| matches!(form, Form::Coded(_) | Form::Masked(_)));
        let offloaded = count(|form| *form == Form::Offloaded);
        Self {
            whole: session.stashes() - recomputed - coded - offloaded,
            recomputed,
            coded,
            offloaded,
        }
    }
}

impl std::fmt::Display for Stashes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            whole,
            recomputed,
            coded,
            offloaded,
        } = self;
        write!(
            formatter,
            "stashes: {whole} whole, {recomputed} computed again, {coded} in fewer bits"
        )?;
        match offloaded {
            0 => Ok(()),
            _ => write!(formatter, ", {offloaded} on the host"),
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "event", rename = "end")]
pub(super) struct Finish<'a> {
    pub(super) end: End,
    pub(super) steps: u64,
    pub(super) accuracy: Option<f64>,
    pub(super) loss: Option<f64>,
    pub(super) weights: Option<&'a Path>,
}

/// Tells of an event; of a step, returns what was told.
pub(super) fn tell(output: &Output, event: &Event, memory: &str) -> Option<String> {
    // For a person who waits; a program reads the result.
    if !matches!(event, Event::Evaluating { .. }) {
        output.json(event);
    }
    match event {
        Event::Step {
            step,
            steps,
            loss,
            accuracy,
            images_per_second,
            ..
        } => {
            let words = format!(
                "loss {}, accuracy {:.0} %, {images_per_second:.0} images/s, {memory}",
                readable(*loss),
                100.0 * accuracy
            );
            let last = format!("step {} of {steps}: {words}", step + 1);
            output.progress(step + 1, *steps, words);
            return Some(last);
        }
        Event::Bounds { step, bounds } => {
            let most = bounds.iter().map(|bound| bound.error).fold(0.0, f64::max);
            output.text(&format!(
                "step {step}: {} stashes in error-bounded codes, no number off by more than {most:e}",
                bounds.len()
            ));
        }
        Event::Evaluation {
            step,
            loss,
            accuracy,
            images,
            ..
        } => output.text(&format!(
            "step {step}: test accuracy {:.2} %, loss {} on {images} images",
            100.0 * accuracy,
            readable(*loss)
        )),
        Event::Evaluating { images, of } => {
            output.message(format!("evaluating, {images} of {of} images, {memory}"));
        }
        Event::Checkpoint { .. } => {}
    }
    None
}

/// A loss in a few digits, even one that has run away.
fn readable(loss: f64) -> String {
    if loss.abs() < 1e4 {
        format!("{loss:.4}")
    } else {
        format!("{loss:.2e}")
    }
}
