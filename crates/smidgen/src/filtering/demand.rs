//! Filters as a choice beside the plan: what each gives and what bias it brings, and which of them a budget asks for. A filter changes the program
//! itself, so that the choice is a search around the planner, with a whole plan for every try, and none of its forms.

use super::Closeness;
use crate::{Bytes, Error, Plans, SessionOptions};
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
/// exact plan fits and is as fast as keeping everything, no filter stays. Else the closest ones stay, as many as it takes for a plan that
/// fits and is as fast as keeping everything exactly; or, if even all of them do not give that, as fast as with all of them.
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
    // A gradient of zero has no direction: such a layer comes last.
    let cosine = |point: &FilterPoint| {
        (point.cosine)
            .filter(|cosine| !cosine.is_nan())
            .unwrap_or(-1.0)
    };
    kept.sort_by(|left, right| cosine(right).total_cmp(&cosine(left)));
    let pairs = |points: &[&FilterPoint]| -> Vec<(String, u32)> {
        (points.iter())
            .map(|point| (point.layer.clone(), point.patch))
            .collect()
    };
    match options.budget {
        None => kept.retain(|point| point.seconds < 0.0),
        Some(budget) => {
            let seconds = |points: &[&FilterPoint]| {
                let named = pairs(points);
                let names = named.iter().map(|(layer, patch)| (layer.as_str(), *patch));
                Plans::new(&filtered(graph, names)?, facts, options)?.seconds_within(budget)
            };
            kept = fewest(
                kept,
                Plans::whole(&filtered(graph, [])?, facts, options)?.seconds,
                seconds,
            )?;
        }
    }
    let named = pairs(&kept);
    let names = named.iter().map(|(layer, patch)| (layer.as_str(), *patch));
    *graph = filtered(graph, names)?;
    Ok(())
}

/// The first of `points` that are enough for a step of `aim` seconds (or of the seconds that all of them give), less those of them that are
/// not missed. `seconds` is that of the fastest plan that fits, if one does.
fn fewest(
    points: Vec<&FilterPoint>,
    aim: f64,
    seconds: impl Fn(&[&FilterPoint]) -> Result<Option<f64>, Error>,
) -> Result<Vec<&FilterPoint>, Error> {
    let Some(all) = seconds(&points)? else {
        return Ok(points);
    };
    let aim = aim.max(all);
    let enough = |points: &[&FilterPoint]| -> Result<bool, Error> {
        Ok(seconds(points)?.is_some_and(|found| found <= aim))
    };
    if enough(&[])? {
        return Ok(Vec::new());
    }
    let (mut few, mut many) = (0, points.len());
    while many - few > 1 {
        let middle = few + (many - few) / 2;
        if enough(&points[..middle])? {
            many = middle;
        } else {
            few = middle;
        }
    }
    let mut kept = points[..many].to_vec();
    // Without one, another may not be missed any more.
    loop {
        let before = kept.len();
        for at in (0..before).rev() {
            let mut fewer = kept.clone();
            fewer.remove(at);
            if enough(&fewer)? {
                kept = fewer;
            }
        }
        if kept.len() == before {
            return Ok(kept);
        }
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
    fn no_more_filters_stay_than_it_takes() {
        let all: Vec<FilterPoint> = ["a", "b", "c", "d"].map(point).to_vec();
        let points: Vec<&FilterPoint> = all.iter().collect();
        let kept = |aim: f64, seconds: &dyn Fn(&str) -> Option<f64>| {
            let seconds = |points: &[&FilterPoint]| {
                let names: String = points.iter().map(|point| point.layer.as_str()).collect();
                Ok(seconds(&names))
            };
            let kept = fewest(points.clone(), aim, seconds).unwrap();
            kept.iter()
                .map(|point| point.layer.as_str())
                .collect::<String>()
        };
        // The exact plan does it.
        assert_eq!(kept(1.0, &|_| Some(1.0)), "");
        // Nothing fits: that is for the session to say.
        assert_eq!(kept(1.0, &|_| None), "abcd");
        // It takes c, and a in front of it is not missed.
        let needs_b_and_c =
            |names: &str| (names.contains('b') && names.contains('c')).then_some(0.5);
        assert_eq!(kept(1.0, &needs_b_and_c), "bc");
        // The exact plan fits and is slow; one filter makes up for it.
        assert_eq!(
            kept(1.0, &|names| Some(if names.is_empty() { 1.1 } else { 0.9 })),
            "a"
        );
        // Not even all of them reach the aim: as fast as all.
        assert_eq!(
            kept(0.1, &|names| Some(1.0 - 0.1 * names.len().min(2) as f64)),
            "ab"
        );
    }

    #[test]
    fn what_a_filter_gives_is_said_in_words() {
        assert_eq!(
            point("conv1").to_string(),
            "conv1 filtered by patches of 2, cosine to its exact gradient 0.950, bias 0.050, saves 1.00 ms (predicted) and saves 1.00 KiB"
        );
    }
}
