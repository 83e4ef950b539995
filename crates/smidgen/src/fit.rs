//! What budgets a network can be trained in, and what the next bytes would buy: answered before anything runs.

use crate::bench::DeviceDescription;
use crate::{
    Bytes, Error, FilterPoint, MicroBatchPoint, PlanFile, PlanPoint, Plans, SessionOptions,
    StashPoint, explain_filters, micro_batch_points,
};
use serde::Serialize;
use smidgen_gpu::DeviceFacts;
use smidgen_graph::Graph;
use std::fmt::Write as _;

/// About so many lines of the table are printed.
const LINES: usize = 16;

/// Every budget at which another plan becomes possible.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fit {
    /// The network.
    pub network: String,
    /// Images of a step.
    pub batch: u32,
    /// Images of it that are computed at once.
    pub micro_batch: u32,
    /// The device.
    pub device: DeviceDescription,
    /// Plans by falling bytes: the first is the fastest, the last needs the least.
    pub plans: Vec<PlanPoint>,
    /// The budget that was named.
    pub budget: Option<Bytes>,
    /// Which of the plans is the fastest within the budget.
    pub chosen: Option<usize>,
    /// That plan, to be written down.
    pub plan: Option<PlanFile>,
    /// How that plan (without a budget, the fastest) holds every stash.
    pub stashes: Vec<StashPoint>,
    /// What dividing the batch would take, where it is not divided.
    pub micro_batches: Vec<MicroBatchPoint>,
    /// Whether the network uses statistics of the batch, which are of a micro-batch where it is divided.
    pub statistics_of_batches: bool,
    /// What each filtered layer saves. Every plan has all of these filters; their bias is not measured, as nothing runs.
    pub filters: Vec<FilterPoint>,
}

impl Fit {
    /// Plans `graph` for a device of which only the facts are needed.
    ///
    /// # Errors
    /// A network that cannot be planned, or a budget below the least that would do.
    pub fn new(
        facts: &DeviceFacts,
        graph: &Graph,
        options: &SessionOptions,
        network: &str,
    ) -> Result<Self, Error> {
        // Every plan is one under a budget.
        let options = &options.settling_filter_state(true);
        let (micro_batches, micro_batch) = options.parts()?;
        let plans = Plans::new(graph, facts, options)?;
        let points = plans.points()?;
        let chosen = match options.budget {
            Some(budget) => {
                // Refuses what does not fit, with what would.
                plans.within(graph, options, budget)?;
                points.iter().position(|point| point.bytes <= budget)
            }
            None => None,
        };
        let plan = chosen.and_then(|at| points.get(at));
        let plan = plan.map(|point| plans.file(&point.forms));
        let explained = points.get(chosen.unwrap_or(0));
        let stashes = explained.map_or_else(|| Ok(Vec::new()), |point| plans.explain(&point.forms));
        Ok(Self {
            network: network.to_owned(),
            batch: options.batch,
            micro_batch,
            micro_batches: if micro_batches > 1 {
                Vec::new()
            } else {
                micro_batch_points(graph, facts, options)?
            },
            statistics_of_batches: graph.uses_statistics_of_batches(),
            device: DeviceDescription::from(facts),
            budget: options.budget,
            chosen,
            plan,
            stashes: stashes?,
            filters: explain_filters(graph, facts, options, &[])?,
            plans: points,
        })
    }

    /// The table for a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!(
            "{}, batch {}{}, on {}: {} plans\n\n",
            self.network,
            self.batch,
            if self.micro_batch < self.batch {
                format!(" in micro-batches of {}", self.micro_batch)
            } else {
                String::new()
            },
            self.device.title(),
            self.plans.len()
        );
        let _ = writeln!(
            text,
            "{:>15} {:>11} {:>12} {:>9}  {}the next bytes",
            "budget in bytes",
            "",
            "step",
            "to fastest",
            if self.plans.iter().any(|point| point.variance > 0.0) {
                "    error  "
            } else {
                ""
            }
        );
        for at in self.shown() {
            let _ = writeln!(text, "{}", self.line(at));
        }
        if let (Some(at), Some(budget)) = (self.chosen, self.budget) {
            let _ = writeln!(
                text,
                "\nthe budget of {} takes the plan marked *, {} a step; its stashes are",
                budget,
                time(self.plans[at].seconds)
            );
            for (form, count, bytes) in self.held() {
                let _ = writeln!(text, "  {count:>4} {form}, {}", Bytes(bytes));
            }
        }
        text.push_str(&self.division());
        if !self.filters.is_empty() {
            text.push_str(
                "\nEvery plan has biased gradients, which only running tells the bias of:\n",
            );
        }
        for filter in &self.filters {
            let _ = writeln!(text, "  {filter}");
        }
        text.push_str(if self.plans.iter().any(|point| point.variance > 0.0) {
            "\nTimes and errors are predictions; an error is that of what backward reads again, squared, by the square of the value.\n"
        } else {
            "\nTimes are predictions; forms that change no bit of the result are all that is considered.\n"
        });
        text
    }

    /// What dividing the batch would take.
    fn division(&self) -> String {
        if self.micro_batches.is_empty() {
            return String::new();
        }
        let mut text =
            String::from("\nThe same batch in micro-batches, whose gradients are summed");
        text.push_str(if self.statistics_of_batches {
            " (with batch statistics of a micro-batch)"
        } else {
            " (the same but for rounding)"
        });
        let _ = writeln!(
            text,
            ":\n{:>8} {:>15} {:>23}",
            "images", "least bytes", "step"
        );
        for point in &self.micro_batches {
            let MicroBatchPoint {
                images,
                least,
                seconds,
            } = point;
            let (bytes, seconds) = (least.0, time(*seconds));
            let _ = writeln!(
                text,
                "{images:>8} {bytes:>15} {:>11} {seconds:>11}",
                least.to_string()
            );
        }
        text
    }

    /// The lines worth printing: the ends, the chosen one, and some in between at even distances in bytes.
    fn shown(&self) -> Vec<usize> {
        let (Some(first), Some(last)) = (self.plans.first(), self.plans.last()) else {
            return Vec::new();
        };
        let step = (first.bytes.0 - last.bytes.0) / LINES as u64;
        let mut next = first.bytes.0;
        let mut shown = Vec::new();
        for (at, point) in self.plans.iter().enumerate() {
            let end = at + 1 == self.plans.len();
            if point.bytes.0 <= next || end || self.chosen == Some(at) {
                shown.push(at);
                next = point.bytes.0.saturating_sub(step);
            }
        }
        shown
    }

    fn line(&self, at: usize) -> String {
        let point = &self.plans[at];
        let slower = 100.0 * (point.seconds / self.plans[0].seconds - 1.0);
        // From here to the plan before, which is the next faster one.
        let buys = at.checked_sub(1).map_or_else(String::new, |faster| {
            let faster = &self.plans[faster];
            format!(
                "{} more would save {}",
                Bytes(faster.bytes.0 - point.bytes.0),
                time(point.seconds - faster.seconds)
            )
        });
        let mark = if self.chosen == Some(at) { "*" } else { " " };
        let error = if self.plans.iter().any(|point| point.variance > 0.0) {
            format!("{:>9.4}  ", point.variance)
        } else {
            String::new()
        };
        let line = format!(
            "{mark}{:>14} {:>11} {:>12} {slower:>+8.1} %  {error}{buys}",
            point.bytes.0,
            point.bytes.to_string(),
            time(point.seconds)
        );
        line.trim_end().to_owned()
    }

    /// Forms of the chosen plan, with how many stashes have them and the bytes these take.
    fn held(&self) -> Vec<(String, usize, u64)> {
        let mut forms: Vec<(String, usize, u64)> = Vec::new();
        for stash in &self.stashes {
            let form = stash.form.to_string();
            match forms.iter_mut().find(|(name, ..)| *name == form) {
                Some((_, count, bytes)) => {
                    *count += 1;
                    *bytes += stash.held_bytes;
                }
                None => forms.push((form, 1, stash.held_bytes)),
            }
        }
        forms
    }
}

fn time(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 1e-3 => format!("{:.1} µs", 1e6 * seconds),
        seconds if seconds < 1.0 => format!("{:.2} ms", 1e3 * seconds),
        _ => format!("{seconds:.2} s"),
    }
}
