//! Exact forms for the stashes of a program as an integer programme, whose optimum no plan can beat.
//!
//! ```text
//! minimise    sum of seconds[p] again[p]
//! such that   recomputed[v] <= again[p]                      p makes the stash v
//!             again[p] <= again[q]                           p reads what q makes and is no stash
//!             copy[u, k] >= copy[v, k] + recomputed[u] - 1   v is made of u, or with it, and its copy stands at moment k
//!             copy[u, k] >= copy[u, k - 1]                   until its last reader
//!             bytes alive at t <= budget                     at every operation t
//! ```
//!
//! The moments are those at which backward first reads a stash: none needs to be made again at any other. What lives only between two operations of the program
//! (what is made again on the way to something else) is left out, so that the optimum is a bound from below.

use good_lp::{
    Expression, ProblemVariables, ResolutionError, Solution, SolverModel, Variable, constraint,
    microlp, variable,
};
use smidgen_graph::forms::{Forms, Outline};
use smidgen_graph::{OperationKind, Phase, Program, ValueId};
use smidgen_plan::{Costs, Planner};
use std::collections::BTreeMap;

/// Numbers near one keep the solver steady.
const MEBIBYTE: f64 = 1_048_576.0;

/// What the oracle knows of a program.
pub(crate) struct Oracle<'a> {
    pub(crate) program: &'a Program,
    pub(crate) outline: &'a Outline,
    pub(crate) planner: &'a Planner<'a>,
    pub(crate) costs: &'a dyn Costs,
    pub(crate) alignment: u64,
}

/// A stash.
struct Held {
    value: usize,
    producer: Option<usize>,
    /// The last operation that touches it forward, and the first and the last that do backward.
    forward: usize,
    first: usize,
    last: usize,
    /// Whether it is made again; `None` where it cannot be.
    again: Option<Variable>,
    mebibytes: f64,
}

impl Oracle<'_> {
    /// Seconds of the fastest step of which no operation has more than `height` bytes alive: a bound from below.
    pub(crate) fn seconds(&self, height: u64) -> Result<f64, ResolutionError> {
        let plain = self.planner.weigh(Forms::new());
        let plain = plain.map_or(f64::NAN, |choice| choice.seconds);
        let mut variables = ProblemVariables::new();
        let held = self.stashes(&mut variables);
        let positions: BTreeMap<usize, usize> = (held.iter().enumerate())
            .map(|(at, held)| (held.value, at))
            .collect();
        let runs = self.repeatable(&mut variables);
        let seconds = runs.iter().map(|(&at, &run)| {
            // The second run of a convolution leaves no moments.
            let again = self.program.operations[at].again();
            self.costs.seconds(self.program, &again) / plain * run
        });
        let cost: Expression = seconds.sum();

        let mut moments: Vec<usize> = held.iter().map(|held| held.first).collect();
        moments.sort_unstable();
        moments.dedup();
        // By stash and moment: whether a copy stands earlier than the stash itself is read.
        let mut early: BTreeMap<(usize, usize), Variable> = BTreeMap::new();
        for (at, held) in held
            .iter()
            .enumerate()
            .filter(|(_, held)| held.again.is_some())
        {
            for k in (0..moments.len()).filter(|k| moments[*k] < held.first) {
                early.insert((at, k), variables.add(variable().min(0.0).max(1.0)));
            }
        }
        let copy = |at: usize, k: usize| -> Option<Expression> {
            let again = held[at].again?;
            match moments[k] {
                moment if moment < held[at].first => early.get(&(at, k)).map(|copy| (*copy).into()),
                moment if moment <= held[at].last => Some(again.into()),
                _ => None,
            }
        };

        let mut model = variables.minimise(cost.clone()).using(microlp);
        for (at, stash) in held.iter().enumerate() {
            let (Some(again), Some(producer)) = (stash.again, stash.producer) else {
                continue;
            };
            model.add_constraint(constraint!(again <= runs[&producer]));
            let others = self.outline.reads(producer).iter();
            for other in others.chain(self.outline.writes(producer)) {
                let Some(&from) = positions.get(other).filter(|from| **from != at) else {
                    continue;
                };
                let Some(other) = held[from].again else {
                    continue;
                };
                for k in 0..moments.len() {
                    if let (Some(&own), Some(copy)) = (early.get(&(from, k)), copy(at, k)) {
                        model.add_constraint(constraint!(own >= copy + other - 1.0));
                    }
                }
            }
        }
        for (&(at, k), &own) in &early {
            if let Some(&before) = k.checked_sub(1).and_then(|k| early.get(&(at, k))) {
                model.add_constraint(constraint!(own >= before));
            }
        }
        for (&at, &run) in &runs {
            for &input in self.outline.reads(at) {
                let producer = self.outline.producer(ValueId(input));
                let before = producer.and_then(|producer| runs.get(&producer));
                if let (Some(&before), false) = (before, positions.contains_key(&input)) {
                    model.add_constraint(constraint!(run <= before));
                }
            }
        }
        for (at, others) in self.others(&positions).into_iter().enumerate() {
            let mut alive = Expression::from(others);
            for (which, stash) in held.iter().enumerate() {
                if at < stash.producer.unwrap_or(0) || at > stash.last {
                    continue;
                }
                alive += stash.mebibytes;
                if let (Some(again), true) = (stash.again, at > stash.forward) {
                    let k = moments.iter().rposition(|moment| *moment <= at);
                    let copy = k.and_then(|k| copy(which, k)).unwrap_or_default();
                    alive += stash.mebibytes * (copy - again);
                }
            }
            model.add_constraint(constraint!(alive <= height as f64 / MEBIBYTE));
        }
        let solution = model.solve()?;
        Ok(plain * (1.0 + solution.eval(cost)))
    }

    fn stashes(&self, variables: &mut ProblemVariables) -> Vec<Held> {
        let backward = |at: &usize| {
            let phase = self.program.operations[*at].phase;
            matches!(phase, Phase::Backward | Phase::Update)
        };
        let stashes = self.outline.stashes().iter().map(|stash| {
            let touching = self.touching(stash.value.0);
            let last = touching.last().copied().unwrap_or(0);
            Held {
                value: stash.value.0,
                producer: stash.producer,
                forward: touching
                    .iter()
                    .copied()
                    .rfind(|at| !backward(at))
                    .unwrap_or(0),
                first: touching.iter().copied().find(backward).unwrap_or(last),
                last,
                again: stash.repeatable.then(|| variables.add(variable().binary())),
                mebibytes: self.mebibytes(stash.bytes),
            }
        });
        stashes.collect()
    }

    /// By operation of the forward pass: whether it runs again. Statistics never do.
    fn repeatable(&self, variables: &mut ProblemVariables) -> BTreeMap<usize, Variable> {
        let operations = self.program.operations.iter().enumerate();
        let forward = operations.filter(|(_, operation)| {
            let statistics = matches!(operation.kind, OperationKind::BatchNormStatistics { .. });
            operation.phase == Phase::Forward && !statistics
        });
        forward
            .map(|(at, _)| (at, variables.add(variable().min(0.0).max(1.0))))
            .collect()
    }

    /// MiB alive at each operation of all that is neither a stash nor persistent.
    fn others(&self, stashes: &BTreeMap<usize, usize>) -> Vec<f64> {
        let mut alive = vec![0.0; self.program.operations.len()];
        for (value, known) in self.program.values.iter().enumerate() {
            if known.role.is_persistent() || stashes.contains_key(&value) {
                continue;
            }
            let touching = self.touching(value);
            if let (Some(&first), Some(&last)) = (touching.first(), touching.last()) {
                let uploaded = value == self.program.labels.0;
                let first = if uploaded { 0 } else { first };
                let mebibytes = self.mebibytes(known.layout.bytes());
                alive[first..=last]
                    .iter_mut()
                    .for_each(|sum| *sum += mebibytes);
            }
        }
        alive
    }

    /// The operations that read or write a value.
    fn touching(&self, value: usize) -> Vec<usize> {
        let touches = |at: &usize| {
            let reads = self.outline.reads(*at).iter();
            reads
                .chain(self.outline.writes(*at))
                .any(|other| *other == value)
        };
        (0..self.program.operations.len()).filter(touches).collect()
    }

    fn mebibytes(&self, bytes: u64) -> f64 {
        bytes.next_multiple_of(self.alignment) as f64 / MEBIBYTE
    }
}
