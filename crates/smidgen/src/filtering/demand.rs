//! Filters as a choice beside the plan: what each gives and what bias it brings, and which of them a budget asks for. A filter changes the program
//! itself, gradients and optimiser state among it, and so every set of filters is planned as a whole.

use super::Closeness;
use super::least_bias::least_bias;
use crate::{Bytes, Error, PlanPoint, Plans, SessionOptions, WholePlan};
use serde::Serialize;
use smidgen_gpu::DeviceFacts;
use smidgen_graph::{Graph, GraphError};

/// What the filter of one layer changes, all others as they are.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FilterPoint {
    /// The layer.
    pub layer: String,
    /// Its patch.
    pub patch: u32,
    /// Cosine of the angle between its filtered and its exact gradient; `None` where it was not measured.
    pub cosine: Option<f64>,
    /// 1 - cosine: 0 for a gradient that points where the exact one does.
    pub bias: Option<f64>,
    /// Predicted seconds that it adds to a step with every stash whole; below 0 where it saves time.
    pub seconds: f64,
    /// Bytes that it adds to these stashes and to what stands from step to step; below 0 where it saves them.
    pub bytes: i64,
}

/// What each filter of a network gives. The cosines are those of `close`, where they were measured.
///
/// # Errors
/// As [`Plans::new`].
pub fn explain_filters(
    graph: &Graph,
    facts: &DeviceFacts,
    options: &SessionOptions,
    close: &[Closeness],
) -> Result<Vec<FilterPoint>, Error> {
    let all: Vec<(&str, u32)> = graph.filters().collect();
    if all.is_empty() {
        return Ok(Vec::new());
    }
    let whole = Plans::whole(graph, facts, options)?;
    let points = all.iter().map(|&(layer, patch)| {
        let others = all.iter().copied().filter(|(other, _)| *other != layer);
        let without = Plans::whole(&filtered(graph, others)?, facts, options)?;
        let measured = close.iter().find(|found| found.layer == layer);
        let cosine = measured.map(|found| found.cosine);
        Ok(FilterPoint {
            layer: layer.to_owned(),
            patch,
            cosine,
            bias: cosine.map(|cosine| 1.0 - cosine),
            seconds: whole.seconds - without.seconds,
            bytes: whole.held as i64 - without.held as i64,
        })
    });
    points.collect()
}

/// Takes the filters away that neither bytes nor time demand. Those of `close` are all that may stay.
///
/// Without a budget a filter stays if it shortens the predicted step. Under a budget bias is spent for nothing but what the budget costs: if the
/// exact plan fits and is as fast as keeping everything, no filter stays. Else those stay whose biases have the least sum, of all sets with
/// a plan that fits and is as fast as keeping everything exactly; or, if even all of them do not give that, as fast as with all of them. Each
/// set is planned as a whole, so filters are weighed together with the other forms. At most two plans a filter are made, and
/// 32: with more than five filters, the set found may not be the best.
///
/// # Errors
/// As [`Plans::new`]. A budget that even all of them do not meet is left to the session to refuse.
pub fn filter_where_demanded(
    graph: &mut Graph,
    facts: &DeviceFacts,
    options: &SessionOptions,
    close: &[Closeness],
) -> Result<(), Error> {
    let points = explain_filters(graph, facts, options, close)?;
    let mut kept: Vec<&FilterPoint> = points
        .iter()
        .filter(|point| point.cosine.is_some() && (point.seconds < 0.0 || point.bytes < 0))
        .collect();
    match options.budget {
        None => kept.retain(|point| point.seconds < 0.0),
        Some(budget) => {
            let planned = Budgeted {
                graph,
                facts,
                options,
                budget,
            };
            kept = planned.least_bias(kept)?;
        }
    }
    let names = kept.iter().map(|point| (point.layer.as_str(), point.patch));
    *graph = filtered(graph, names)?;
    Ok(())
}

/// Plans that are made beside two a filter.
const PLANS: usize = 32;

/// Networks that differ in their filters, under a budget.
struct Budgeted<'a> {
    graph: &'a Graph,
    facts: &'a DeviceFacts,
    options: &'a SessionOptions,
    budget: Bytes,
}

impl Budgeted<'_> {
    fn with(&self, points: &[&FilterPoint]) -> Result<Graph, GraphError> {
        let names = points
            .iter()
            .map(|point| (point.layer.as_str(), point.patch));
        filtered(self.graph, names)
    }

    fn whole(&self, graph: &Graph) -> Result<WholePlan, Error> {
        Plans::whole(graph, self.facts, self.options)
    }

    fn plans(&self, graph: &Graph) -> Result<Plans, Error> {
        Plans::new(graph, self.facts, self.options)
    }

    /// Those of `points` that are enough for a step of the seconds that keeping everything exactly takes (or all of them give), of the least bias.
    fn least_bias<'p>(&self, points: Vec<&'p FilterPoint>) -> Result<Vec<&'p FilterPoint>, Error> {
        let all = self.plans(&self.with(&points)?)?;
        let Some(seconds) = all.seconds_within(self.budget)? else {
            return Ok(points);
        };
        let exact = self.with(&[])?;
        let whole = self.whole(&exact)?;
        let aim = whole.seconds.max(seconds);
        let exact = self.plans(&exact)?;
        if exact
            .seconds_within(self.budget)?
            .is_some_and(|found| found <= aim)
        {
            return Ok(Vec::new());
        }
        let price = self.price_of_a_byte(whole, &exact)?;
        // A gradient of zero has no direction: such a layer comes last.
        let bias = |point: &FilterPoint| point.bias.filter(|bias| !bias.is_nan()).unwrap_or(2.0);
        let worth = |point: &FilterPoint| {
            let saved = -point.seconds - price * point.bytes as f64;
            bias(point) / saved.max(f64::MIN_POSITIVE)
        };
        let biases: Vec<f64> = points.iter().map(|point| bias(point)).collect();
        let mut order: Vec<usize> = (0..points.len()).collect();
        order.sort_by(|left, right| worth(points[*left]).total_cmp(&worth(points[*right])));
        let questions = PLANS + 2 * points.len();
        let found = least_bias(&biases, &order, questions, |set| -> Result<bool, Error> {
            let some: Vec<&FilterPoint> = set.iter().map(|at| points[*at]).collect();
            let graph = self.with(&some)?;
            let whole = self.whole(&graph)?;
            if whole.reserved <= self.budget && whole.seconds <= aim {
                return Ok(true);
            }
            let seconds = self.plans(&graph)?.seconds_within(self.budget)?;
            Ok(seconds.is_some_and(|found| found <= aim))
        })?;
        Ok(found.into_iter().map(|at| points[at]).collect())
    }

    /// Seconds that the exact plan gives for a byte less, on the way from everything whole to the budget, or as far as it comes.
    fn price_of_a_byte(&self, whole: WholePlan, exact: &Plans) -> Result<f64, Error> {
        let points = exact.points()?;
        let within = |point: &&PlanPoint| point.bytes <= self.budget;
        let point = points.iter().find(within).or(points.last());
        Ok(point.map_or(0.0, |point| {
            let bytes = whole.reserved.0.saturating_sub(point.bytes.0).max(1);
            (point.seconds - whole.seconds).max(0.0) / bytes as f64
        }))
    }
}

fn filtered<'a>(
    graph: &Graph,
    filters: impl IntoIterator<Item = (&'a str, u32)>,
) -> Result<Graph, GraphError> {
    let mut other = graph.clone();
    other.clear_filters();
    for (layer, patch) in filters {
        other.filter(layer, patch)?;
    }
    Ok(other)
}

impl std::fmt::Display for FilterPoint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "{} filtered by patches of {}",
            self.layer, self.patch
        )?;
        if let (Some(cosine), Some(bias)) = (self.cosine, self.bias) {
            write!(
                formatter,
                ", cosine to its exact gradient {cosine:.3}, bias {bias:.3}"
            )?;
        }
        let verb = |less: bool| if less { "saves" } else { "costs" };
        write!(
            formatter,
            ", {} {:.2} ms (predicted) and {} {}",
            verb(self.seconds < 0.0),
            1e3 * self.seconds.abs(),
            verb(self.bytes < 0),
            Bytes(self.bytes.unsigned_abs())
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(layer: &str) -> FilterPoint {
        FilterPoint {
            layer: layer.into(),
            patch: 2,
            cosine: Some(0.95),
            bias: Some(0.05),
            seconds: -1e-3,
            bytes: -1024,
        }
    }

    #[test]
    fn what_a_filter_gives_is_said_in_words() {
        assert_eq!(
            point("conv1").to_string(),
            "conv1 filtered by patches of 2, cosine to its exact gradient 0.950, bias 0.050, saves 1.00 ms (predicted) and saves 1.00 KiB"
        );
    }
}
