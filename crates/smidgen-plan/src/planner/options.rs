//! The ways to run each block.

use super::blocks::Blocks;
use super::weigh::Scale;
use crate::chain::Arc;
use smidgen_graph::ValueId;
use smidgen_graph::forms::{Form, Forms, Stash};

/// The map between two blocks is held whole, or made again.
pub(super) const STATES: usize = 2;
const WHOLE: usize = 0;
const AGAIN: usize = 1;

/// So many stashes of a block are tried in every combination; the smaller ones beyond them stay whole.
const COMBINED: usize = 8;
/// Stashes of less than this part of the block's largest stay whole.
const SMALL: u64 = 64;
/// So many blocks in a row may be made again from one map.
const LONGEST: usize = 12;

/// A way to run some blocks.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) arc: Arc,
    /// Of the stashes made in these blocks.
    pub(super) forms: Forms,
}

/// All undominated ways to run every block, and of rows of blocks that are made again from the map they are entered with.
pub(super) fn of_chain(scale: &Scale<'_>, blocks: &Blocks) -> Vec<Way> {
    let count = blocks.count();
    let mut stashes: Vec<Vec<Stash>> = vec![Vec::new(); count];
    for stash in scale.outline.stashes() {
        let block = stash.producer.map_or(0, |at| blocks.places[at].0);
        stashes[block].push(*stash);
    }
    let mut chain = Chain {
        scale,
        blocks,
        whole: stashes
            .iter()
            .map(|list| chain_bytes(scale, list))
            .collect(),
        seconds: scale
            .weigh(&Forms::new())
            .map_or(0.0, |weight| weight.seconds),
        stashes,
        ways: Vec::new(),
    };
    for from in 0..count {
        chain.block(from);
        for to in from + 2..=count.min(from + LONGEST) {
            chain.row(from, to);
        }
    }
    chain.ways
}

fn chain_bytes(scale: &Scale<'_>, stashes: &[Stash]) -> u64 {
    stashes.iter().map(|stash| scale.bytes[stash.value.0]).sum()
}

struct Chain<'a> {
    scale: &'a Scale<'a>,
    blocks: &'a Blocks,
    stashes: Vec<Vec<Stash>>,
    /// By block: bytes of its stashes, all whole.
    whole: Vec<u64>,
    /// Of a step in which all are whole.
    seconds: f64,
    ways: Vec<Way>,
}

impl Chain<'_> {
    /// Every combination of forms in one block.
    fn block(&mut self, from: usize) {
        let largest = (self.stashes[from].iter().map(|stash| stash.bytes))
            .max()
            .unwrap_or(0);
        let mut open: Vec<Stash> = (self.stashes[from].iter().copied())
            .filter(|stash| stash.repeatable && stash.bytes * SMALL >= largest)
            .collect();
        open.sort_by_key(|stash| std::cmp::Reverse(stash.bytes));
        open.truncate(COMBINED);
        let combinations = (0..1_usize << open.len()).map(|bits| {
            let chosen = open
                .iter()
                .enumerate()
                .filter(|(at, _)| bits >> at & 1 == 1);
            chosen
                .map(|(_, stash)| (stash.value, Form::Recomputed))
                .collect()
        });
        self.offer(from, from + 1, combinations.collect());
    }

    /// Everything in a row of blocks made again but the map it is left with.
    fn row(&mut self, from: usize, to: usize) {
        let left = self.boundary(to);
        let again = self.stashes[from..to].iter().flatten();
        let forms = again
            .filter(|stash| stash.repeatable && Some(stash.value) != left)
            .map(|stash| (stash.value, Form::Recomputed));
        let forms = forms.collect();
        self.offer(from, to, vec![forms]);
    }

    /// The stash between two blocks, if it is one that can be made again.
    fn boundary(&self, block: usize) -> Option<ValueId> {
        let value = (*self.blocks.entries.get(block)?)?;
        let made = self.stashes[..block].iter().flatten();
        made.rev()
            .find(|stash| stash.value == value && stash.repeatable)
            .map(|stash| stash.value)
    }

    /// Whether `value` is made again from `source`, directly or by way of others that are.
    fn reaches(&self, value: Option<ValueId>, source: Option<ValueId>, forms: &Forms) -> bool {
        let outline = self.scale.outline;
        let (Some(value), Some(source)) = (value, source) else {
            return false;
        };
        let held = |id: ValueId| outline.is_stash(id) && !forms.contains_key(&id);
        let inputs = outline
            .producer(value)
            .map_or(&[][..], |at| outline.reads(at));
        inputs.iter().copied().map(ValueId).any(|input| {
            input == source || !held(input) && self.reaches(Some(input), Some(source), forms)
        })
    }

    /// Weighs these forms, with the map the blocks are entered with whole or made again, and takes what nothing dominates.
    fn offer(&mut self, from: usize, to: usize, combinations: Vec<Forms>) {
        let (entered, left) = (self.boundary(from), self.boundary(to));
        for entry in [WHOLE, AGAIN] {
            let entered = match (entry, entered) {
                (WHOLE, _) => None,
                (_, None) => continue,
                (_, entered) => entered,
            };
            let before: Forms = entered
                .map(|value| (value, Form::Recomputed))
                .into_iter()
                .collect();
            let Ok(base) = self.scale.weigh(&before) else {
                continue;
            };
            let below: u64 = self.whole[..from].iter().sum::<u64>()
                - entered.map_or(0, |value| self.scale.bytes[value.0]);
            let all: u64 = self.whole[from..to].iter().sum();
            let mut fronts: [Vec<Way>; STATES] = [Vec::new(), Vec::new()];
            for forms in &combinations {
                let exit = left.map_or(WHOLE, |value| usize::from(forms.contains_key(&value)));
                // What is made again at the end of a block from what it is entered with needs that to be there already.
                if entry == AGAIN && exit == AGAIN && self.reaches(left, entered, forms) {
                    continue;
                }
                let joined = before
                    .iter()
                    .chain(forms)
                    .map(|(value, form)| (*value, *form))
                    .collect();
                let Ok(weight) = self.scale.weigh(&joined) else {
                    continue;
                };
                let dropped: u64 = forms.keys().map(|value| self.scale.bytes[value.0]).sum();
                let arc = Arc {
                    from,
                    to,
                    entry,
                    exit,
                    kept: all - dropped,
                    peak: weight.peak(from, to).saturating_sub(below),
                    cost: weight.seconds - base.seconds.max(self.seconds),
                };
                let dominated = |other: &Way| {
                    other.arc.kept <= arc.kept
                        && other.arc.peak <= arc.peak
                        && other.arc.cost <= arc.cost
                };
                if !fronts[exit].iter().any(dominated) {
                    fronts[exit].retain(|other| {
                        other.arc.kept < arc.kept
                            || other.arc.peak < arc.peak
                            || other.arc.cost < arc.cost
                    });
                    fronts[exit].push(Way {
                        arc,
                        forms: forms.clone(),
                    });
                }
            }
            self.ways.extend(fronts.into_iter().flatten());
        }
    }
}
