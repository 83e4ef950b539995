//! MEST: memory-economic sparse training (Yuan et al., "MEST: Accurate and Fast Memory-Economic Sparse Training Framework on the Edge",
//! NeurIPS 2021), on live blocks that are really all there is.
//!
//! Every few epochs the masks mutate: in every output group the blocks of smallest norm go and as many grow, at random and from zero. With
//! elastic mutation (EM) the share that mutates shrinks in stages to none, and memory never exceeds the target. With the soft bound
//! (EM&S) a stage grows beyond the target first, trains, and prunes back to it; the bound falls to the target in stages, and the
//! slots of the first stage are what is planned for.
//!
//! Kept from the authors' code: the stages' shares, their ends at 9/16 and 3/4 of the epochs, a mutation every 1/32 of them, magnitude alone
//! as importance (their gradient term is never active). Different: blocks of 4 by 4 channels, the same number in every output group;
//! the momentum of what is pruned goes with it.

use smidgen::{Error, Graph, Order, Recipe, Session, SparseLayer};

/// What MEST is to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MestOptions {
    /// The share of blocks that are live in the end.
    pub density: f64,
    /// Whether memory may exceed the target in early stages (EM&S).
    pub soft: bool,
    /// Epochs of the whole run.
    pub epochs: u32,
    /// Epochs from one mutation to the next: as published, 1/32 of the run. More where a run is so short that what grows would not have the
    /// steps to grow in.
    pub interval: u32,
    /// Of what grows.
    pub seed: u32,
}

/// What a stage of a schedule needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StageNeeds {
    /// Its first epoch.
    pub epoch: u32,
    /// The share of blocks that is live.
    pub density: f64,
    /// Bytes of what is live of all sparse layers: weights, gradients and optimiser state.
    pub bytes: u64,
}

/// Densities in a stage: after pruning, and after growing.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stage {
    prune_to: f64,
    grow_to: f64,
}

impl MestOptions {
    /// Elastic mutation at a target density, over so many epochs.
    #[must_use]
    pub fn elastic(density: f64, epochs: u32) -> Self {
        Self {
            density,
            soft: false,
            epochs,
            interval: (epochs / 32).max(1),
            seed: 1,
        }
    }

    /// Elastic mutation with the soft memory bound.
    #[must_use]
    pub fn soft(density: f64, epochs: u32) -> Self {
        Self {
            soft: true,
            ..Self::elastic(density, epochs)
        }
    }

    /// The largest density of any stage: what there must be slots for.
    #[must_use]
    pub fn most(&self) -> f64 {
        self.stage(0).grow_to
    }

    /// Densities after pruning and after growing, in the mutation before an epoch.
    #[must_use]
    pub fn densities(&self, epoch: u32) -> [f64; 2] {
        let stage = self.stage(epoch);
        [stage.prune_to, stage.grow_to]
    }

    /// The first epochs of the second and third stage.
    fn starts(&self) -> [u32; 2] {
        let last = self.epochs.saturating_sub(1);
        [9, 12].map(|sixteenths| (self.epochs * sixteenths).div_ceil(16).min(last))
    }

    fn stage(&self, epoch: u32) -> Stage {
        // A run too short for them has the first stage and the last.
        let starts = self.starts();
        let stage = starts.iter().filter(|start| epoch >= **start).count();
        let density = self.density;
        if self.soft {
            let beyond = [0.05, 0.025, 0.0][stage];
            Stage {
                prune_to: density,
                grow_to: (density + beyond).min(1.0),
            }
        } else {
            let moved = [0.2, 0.1, 0.0][stage];
            Stage {
                prune_to: density * (1.0 - moved),
                grow_to: density,
            }
        }
    }
}

/// The recipe for one network.
#[derive(Debug, Clone)]
pub struct Mest {
    options: MestOptions,
    layers: Vec<SparseLayer>,
}

impl Mest {
    /// For a network that has been made sparse, with slots for [`MestOptions::most`]; every mutation of the run is checked.
    ///
    /// # Errors
    /// A network without sparse layers or with frozen ones, a density outside (0, 1], slots for less than the schedule grows to, or a layer in which a
    /// mutation cannot be done exactly.
    pub fn new(graph: &Graph, options: &MestOptions) -> Result<Self, Error> {
        let wrong = |what: String| Error::Recipe { name: "mest", what };
        let density = options.density;
        if !(density > 0.0 && density <= 1.0) {
            return Err(wrong(format!(
                "a density of {density} is outside (0, 1]; give the share of weights that stay, such as 0.1"
            )));
        }
        if options.interval == 0 {
            return Err(wrong("an interval of 0 epochs; give at least 1".into()));
        }
        let layers = graph.sparse_layers();
        if layers.is_empty() {
            return Err(wrong(
                "the network has no sparse layers; give a sparsity, such as --sparse 0.9".into(),
            ));
        }
        let is_frozen = |layer: &&SparseLayer| !graph.parameters()[layer.weight.0].trainable;
        if let Some(frozen) = layers.iter().find(is_frozen) {
            return Err(wrong(format!(
                "`{}` is frozen, so what grows there would stay zero; train it, or leave the mask as it is",
                frozen.name
            )));
        }
        let recipe = Self {
            options: *options,
            layers,
        };
        for layer in &recipe.layers {
            let needed = f64::from(layer.candidates) * (options.most() * layer.share).min(1.0);
            if needed.round() > f64::from(layer.blocks.slots) {
                return Err(wrong(format!(
                    "the schedule grows `{}` to {needed:.0} blocks an output group, which has slots for {}; plan for a largest density of {}",
                    layer.name,
                    layer.blocks.slots,
                    options.most()
                )));
            }
        }
        let changes = (0..options.epochs).step_by(options.interval as usize);
        let last = changes.clone().next_back().unwrap_or(0);
        if options.stage(last).grow_to > density {
            return Err(wrong(format!(
                "a mutation every {} epochs leaves none in the last stage of {}, in which masks come back to a density of {density}; give a \
                 shorter interval",
                options.interval, options.epochs
            )));
        }
        for epoch in changes {
            for (layer, order) in recipe.layers.iter().zip(recipe.orders(epoch)) {
                let before = recipe.live_before(layer, epoch);
                if before + order.grow > layer.candidates {
                    return Err(wrong(format!(
                        "`{}` is too small: {before} of its {} blocks an output group are live before epoch {epoch}, so {} others cannot \
                         grow; lower the density",
                        layer.name, layer.candidates, order.grow
                    )));
                }
            }
        }
        Ok(recipe)
    }

    /// What each stage needs, with an optimiser of so many states: what a session has planned is the most of them.
    #[must_use]
    pub fn stages(&self, states: usize) -> Vec<StageNeeds> {
        let [second, third] = self.options.starts();
        // Masks change before an epoch of the interval.
        let first_change = |start: u32| start.next_multiple_of(self.options.interval);
        let epochs = [0, first_change(second), first_change(third)];
        let mut stages: Vec<StageNeeds> = Vec::new();
        for epoch in epochs
            .into_iter()
            .filter(|epoch| *epoch < self.options.epochs)
        {
            let density = self.options.stage(epoch).grow_to;
            stages.retain(|stage| stage.epoch < epoch);
            if stages.last().is_none_or(|stage| stage.density != density) {
                let bytes = self.layers.iter().map(|layer| layer.bytes(density, states));
                stages.push(StageNeeds {
                    epoch,
                    density,
                    bytes: bytes.sum(),
                });
            }
        }
        stages
    }

    /// Live blocks of every output group of a layer when an epoch begins, before its mutation.
    fn live_before(&self, layer: &SparseLayer, epoch: u32) -> u32 {
        match epoch.checked_sub(self.options.interval) {
            // All slots are filled at the start.
            None => layer.blocks.slots,
            Some(previous) => layer.live(self.options.stage(previous).grow_to),
        }
    }

    /// What every sparse layer does before an epoch that mutates.
    fn orders(&self, epoch: u32) -> Vec<Order> {
        let stage = self.options.stage(epoch);
        (0..)
            .zip(&self.layers)
            .map(|(stream, layer)| {
                let before = self.live_before(layer, epoch);
                let keep = layer.live(stage.prune_to).min(before);
                Order {
                    keep,
                    grow: layer.live(stage.grow_to) - keep,
                    seed: self.options.seed.wrapping_add(epoch),
                    stream,
                }
            })
            .collect()
    }
}

impl Recipe for Mest {
    fn check(&self, session: &mut Session) -> Result<(), Error> {
        for layer in &self.layers {
            let blocks = session.live_blocks(&layer.name)?;
            let groups = blocks.chunks(layer.blocks.slots as usize);
            let fewest = groups.map(|own| own.iter().flatten().count()).min();
            if let Some(fewest) = fewest.filter(|count| *count < layer.blocks.slots as usize) {
                return Err(Error::Recipe {
                    name: "mest",
                    what: format!(
                        "the mask that was loaded leaves {fewest} blocks live in an output group of `{}`, which begins with {}; load \
                         weights without a mask, or lower the density",
                        layer.name, layer.blocks.slots
                    ),
                });
            }
        }
        Ok(())
    }

    fn before_epoch(&mut self, session: &mut Session, epoch: u64) -> Result<(), Error> {
        let epoch = u32::try_from(epoch).unwrap_or(u32::MAX);
        if !epoch.is_multiple_of(self.options.interval) {
            return Ok(());
        }
        let orders = self.orders(epoch);
        let changes = (self.layers.iter().zip(&orders))
            .any(|(layer, order)| order.grow > 0 || order.keep < self.live_before(layer, epoch));
        if changes {
            session.mutate(&orders)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smidgen::{Sparsity, zoo};

    fn network(density: f64, most: f64) -> Graph {
        let mut graph = zoo::build("resnet20", 10, [3, 32, 32]).unwrap();
        graph
            .sparsify(&Sparsity {
                most,
                ..Sparsity::uniform(density)
            })
            .unwrap();
        graph
    }

    #[test]
    fn the_stages_are_those_of_the_paper() {
        let elastic = MestOptions::elastic(0.1, 160);
        let soft = MestOptions::soft(0.1, 160);
        assert_eq!((elastic.interval, elastic.most()), (5, 0.1));
        assert!((soft.most() - 0.15).abs() < 1e-12);
        for (epoch, prune_to, grow_to) in [
            (0, 0.08, 0.15),
            (89, 0.08, 0.15),
            (90, 0.09, 0.125),
            (119, 0.09, 0.125),
            (120, 0.1, 0.1),
        ] {
            assert!((elastic.stage(epoch).prune_to - prune_to).abs() < 1e-12);
            assert!((soft.stage(epoch).grow_to - grow_to).abs() < 1e-12);
            assert_eq!(
                (elastic.stage(epoch).grow_to, soft.stage(epoch).prune_to),
                (0.1, 0.1)
            );
        }
    }

    #[test]
    fn the_live_count_stays_with_the_hard_bound_and_falls_to_the_target_with_the_soft_one() {
        for options in [MestOptions::elastic(0.2, 20), MestOptions::soft(0.2, 20)] {
            let mest = Mest::new(&network(0.2, options.most()), &options).unwrap();
            let layer = &mest.layers[0];
            let mut live = layer.blocks.slots;
            for epoch in 0..20 {
                let order = mest.orders(epoch)[0];
                assert!(order.keep <= live);
                live = order.keep + order.grow;
                assert!(live <= layer.blocks.slots);
                assert_eq!(live, layer.live(options.stage(epoch).grow_to));
            }
            assert_eq!(live, layer.live(0.2));
        }
    }

    #[test]
    fn stages_know_their_bytes() {
        let options = MestOptions::soft(0.2, 160);
        let mest = Mest::new(&network(0.2, options.most()), &options).unwrap();
        let stages = mest.stages(1);
        let epochs: Vec<u32> = stages.iter().map(|stage| stage.epoch).collect();
        assert_eq!(epochs, [0, 90, 120]);
        assert!(stages.is_sorted_by(|before, after| before.bytes > after.bytes));
        let elastic = MestOptions::elastic(0.2, 160);
        let mest = Mest::new(&network(0.2, 0.2), &elastic).unwrap();
        let last = stages[2].bytes;
        assert!(
            matches!(mest.stages(1)[..], [StageNeeds { epoch: 0, bytes, .. }] if bytes == last)
        );
    }

    #[test]
    fn what_cannot_be_is_refused_before_training() {
        let graph = network(0.2, 0.2);
        let soft = Mest::new(&graph, &MestOptions::soft(0.2, 20)).unwrap_err();
        assert!(soft.to_string().contains("has slots for"), "{soft}");
        let dense = zoo::build("resnet20", 10, [3, 32, 32]).unwrap();
        assert!(Mest::new(&dense, &MestOptions::elastic(0.2, 20)).is_err());
        for epochs in 1..20 {
            let soft = MestOptions::soft(0.2, epochs);
            let mest = Mest::new(&network(0.2, soft.most()), &soft).unwrap();
            assert_eq!(mest.stages(1).last().unwrap().density, 0.2);
        }
        let rare = MestOptions {
            interval: 5,
            ..MestOptions::soft(0.2, 8)
        };
        let rare = Mest::new(&network(0.2, rare.most()), &rare).unwrap_err();
        assert!(rare.to_string().contains("shorter interval"), "{rare}");
        for density in [0.0, 1.5, f64::NAN] {
            let wrong = Mest::new(&graph, &MestOptions::elastic(density, 20)).unwrap_err();
            assert!(wrong.to_string().contains("outside (0, 1]"));
        }
        let mut frozen = network(0.2, 0.2);
        frozen.train_last(1).unwrap();
        let frozen = Mest::new(&frozen, &MestOptions::elastic(0.2, 20)).unwrap_err();
        assert!(frozen.to_string().contains("is frozen"), "{frozen}");
        let nearly = network(0.95, 0.95);
        let crowded = Mest::new(&nearly, &MestOptions::elastic(0.95, 20)).unwrap_err();
        assert!(crowded.to_string().contains("too small"), "{crowded}");
    }
}
