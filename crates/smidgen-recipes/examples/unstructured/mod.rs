//! MEST with masks of single weights, for comparison only: dense weights are multiplied by a mask after every step, so nothing is saved, in
//! bytes or in time. What public implementations of sparse training do.

use crate::common::{
    BATCH, Data, LEARNING_RATE, Outcome, Random, WIDTHS, network, parameter_bytes, session,
};
use smidgen::data::Loader;
use smidgen::{Graph, Schedule, Session, Sparsity, StepOptions, Training};
use smidgen_recipes::MestOptions;
use std::sync::Arc;

/// What happens to the masks, which have the density of the recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Masks {
    /// The largest weights at the start are live, and the masks mutate as the recipe says.
    Elastic,
    /// The same weights stay live.
    Magnitude,
    /// Any weights are live, and stay so.
    Random,
}

pub(crate) struct Masked {
    pub(crate) name: String,
    pub(crate) mask: Vec<bool>,
}

impl Masked {
    /// Keeps what is live of the weight, and of its momentum: after every step, this is training with the gradient times the mask.
    pub(crate) fn apply(&self, session: &mut Session) -> Outcome<()> {
        for name in [self.name.clone(), format!("momentum of {}", self.name)] {
            let mut values = session.read(&name)?;
            let masked = values
                .iter_mut()
                .zip(&self.mask)
                .filter(|(_, live)| !**live);
            masked.for_each(|(value, _)| *value = 0.0);
            session.write(&name, &values)?;
        }
        Ok(())
    }

    /// Keeps the `keep` largest live weights, then grows up to `live` among those that were not live, at random and from zero.
    fn mutate(
        &mut self,
        session: &mut Session,
        [keep, live]: [usize; 2],
        random: &mut Random,
    ) -> Outcome<()> {
        let weights = session.read(&self.name)?;
        let (mut alive, mut free): (Vec<usize>, Vec<usize>) =
            (0..weights.len()).partition(|at| self.mask[*at]);
        alive.sort_by(|a, b| weights[*b].abs().total_cmp(&weights[*a].abs()));
        alive.truncate(keep);
        random.draw(&mut free, live - alive.len());
        self.apply_only(alive.iter().copied());
        // What was pruned goes before the rest grows, so that it starts from zero.
        self.apply(session)?;
        self.apply_only(alive.into_iter().chain(free));
        Ok(())
    }

    fn apply_only(&mut self, live: impl Iterator<Item = usize>) {
        self.mask.fill(false);
        live.for_each(|at| self.mask[at] = true);
    }
}

/// Test accuracy in percent, and bytes of weights, gradients and momentum, which are those of the dense network.
pub(crate) fn run(
    graph: &Graph,
    (masks, mest): (Masks, &MestOptions),
    seed: u64,
    data: &Data,
) -> Outcome<Vec<f64>> {
    let mut session = session(graph, BATCH, Training::default(), seed)?;
    let mut sparse = network(WIDTHS)?;
    sparse.sparsify(&Sparsity::uniform(mest.density))?;
    let mut random = Random(seed);
    let mut layers = Vec::new();
    for layer in sparse.sparse_layers() {
        let weights = session.read(&layer.name)?;
        let live = (weights.len() as f64 * mest.density).round() as usize;
        let mut layer = Masked {
            name: layer.name,
            mask: vec![true; weights.len()],
        };
        if masks == Masks::Random {
            let mut any: Vec<usize> = (0..weights.len()).collect();
            random.draw(&mut any, live);
            layer.apply_only(any.into_iter());
            layer.apply(&mut session)?;
        } else {
            layer.mutate(&mut session, [live, live], &mut random)?;
        }
        layers.push(layer);
    }
    let loader = Loader::training(
        Arc::clone(&data.train),
        BATCH as usize,
        data.normalization.clone(),
        "crop,flip".parse()?,
        seed,
    )?;
    let per_epoch = loader.batches() as u64;
    let steps = per_epoch * u64::from(mest.epochs);
    let schedule = Schedule::Cosine { warm_up: 0.0 };
    let mut step = 0;
    for epoch in 0..mest.epochs {
        if masks == Masks::Elastic && epoch.is_multiple_of(mest.interval) {
            let [keep, grow] = mest.densities(epoch);
            for layer in &mut layers {
                let share = |density: f64| (layer.mask.len() as f64 * density).round() as usize;
                let counts = [share(keep), share(grow)];
                layer.mutate(&mut session, counts, &mut random)?;
            }
        }
        for batch in loader.epoch(u64::from(epoch), 0) {
            let batch = batch?;
            let options = StepOptions {
                step,
                learning_rate: (LEARNING_RATE * schedule.factor(step, steps, per_epoch)) as f32,
                seed: 0,
            };
            session.train_step(&batch.images, &batch.labels, &options)?;
            session.metrics()?;
            loader.recycle(batch);
            for layer in &layers {
                layer.apply(&mut session)?;
            }
            step += 1;
        }
    }
    let bytes = parameter_bytes(&session) as f64;
    Ok(vec![data.accuracy(&mut session)?, bytes])
}
