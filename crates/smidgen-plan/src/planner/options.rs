//! The ways to run each block.

use super::blocks::Blocks;
use super::part::{Part, lives};
use super::weigh::Scale;
use super::workers;
use crate::chain::Arc;
use smidgen_graph::ValueId;
use smidgen_graph::forms::{Code, Form, Forms, Stash};

/// The map between two blocks is held whole, made again, in a code, made again in slices, or on the host.
pub(super) const STATES: usize = 5;
const WHOLE: usize = 0;
const AGAIN: usize = 1;
const CODED: usize = 2;
const SLICED: usize = 3;
const OFFLOADED: usize = 4;

/// About so many combinations of forms are tried in a block.
const COMBINATIONS: usize = 432;
/// Stashes of less than this part of the block's largest stay whole.
const SMALL: u64 = 64;
/// A way to run a block.
#[derive(Debug, Clone)]
pub(super) struct Way {
    /// Its cost is its time beyond that of the same block with everything whole.
    pub(super) arc: Arc,
    pub(super) variance: f64,
    /// Of the stashes made in it.
    pub(super) forms: Forms,
}

impl Way {
    /// Whether nothing speaks for the other way.
    fn dominates(&self, other: &Self) -> bool {
        self.arc.kept <= other.arc.kept
            && self.arc.before <= other.arc.before
            && self.arc.behind <= other.arc.behind
            && self.arc.made <= other.arc.made
            && self.arc.linked <= other.arc.linked
            && self.arc.cost <= other.arc.cost
            && self.variance <= other.variance
    }
}

/// The ways that are left once variance has a price in seconds, with what they cost then: of those between the same states, what no other beats.
pub(super) fn priced<'w>(ways: &[&'w Way], price: f64) -> (Vec<&'w Way>, Vec<Arc>) {
    let mut by_cost: Vec<(&Way, Arc)> = (ways.iter())
        .map(|way| {
            let cost = way.arc.cost + price * way.variance;
            (*way, Arc { cost, ..way.arc })
        })
        .collect();
    let between = |arc: &Arc| (arc.from, arc.entry, arc.exit);
    by_cost.sort_by(|(_, left), (_, right)| {
        (between(left).cmp(&between(right))).then(left.cost.total_cmp(&right.cost))
    });
    let mut left: Vec<(&Way, Arc)> = Vec::new();
    let mut begin = 0;
    for (way, arc) in by_cost {
        if left
            .last()
            .is_some_and(|(_, last)| between(last) != between(&arc))
        {
            begin = left.len();
        }
        let beats = |(_, cheaper): &(&Way, Arc)| {
            cheaper.kept <= arc.kept
                && cheaper.before <= arc.before
                && cheaper.behind <= arc.behind
                && cheaper.made <= arc.made
                && cheaper.linked <= arc.linked
        };
        if !left[begin..].iter().any(beats) {
            left.push((way, arc));
        }
    }
    left.into_iter().unzip()
}

/// All undominated ways to run every block.
pub(super) fn of_chain(scale: &Scale<'_>, blocks: &Blocks) -> Vec<Way> {
    let count = blocks.count();
    let mut stashes: Vec<Vec<&Stash>> = vec![Vec::new(); count];
    for stash in scale.outline.stashes() {
        let block = stash.producer.map_or(0, |at| blocks.places[at].0);
        stashes[block].push(stash);
    }
    let whole = stashes.iter().map(|list| {
        let bytes = list.iter().map(|stash| scale.bytes[stash.value.0]);
        bytes.sum()
    });
    let chain = Chain {
        scale,
        blocks,
        whole: whole.collect(),
        lives: lives(scale),
        stashes,
    };
    let found = workers::each(count, |block| chain.block(block));
    found.into_iter().flatten().collect()
}

struct Chain<'a> {
    scale: &'a Scale<'a>,
    blocks: &'a Blocks,
    stashes: Vec<Vec<&'a Stash>>,
    /// By block: bytes of its stashes, all whole.
    whole: Vec<u64>,
    /// By value: the first and the last operation that it lives at, all stashes whole.
    lives: Vec<Option<(usize, usize)>>,
}

impl Chain<'_> {
    /// Every combination of exact forms in one block (where there are too many, of its largest stashes, and everything made again); and of all forms, where there are too many with the smaller stashes held as the
    /// largest is.
    fn block(&self, block: usize) -> Vec<Way> {
        let mut stashes = self.stashes[block].clone();
        stashes.sort_by_key(|stash| std::cmp::Reverse(stash.bytes));
        let largest = stashes.first().map_or(0, |stash| stash.bytes);
        stashes.retain(|stash| stash.bytes * SMALL >= largest && !open(stash).is_empty());
        let mut exact = vec![Forms::new()];
        for stash in &stashes {
            let forms = in_full(stash);
            if !forms.is_empty() && exact.len() < COMBINATIONS / 2 {
                extend(&mut exact, stash, &forms);
            }
        }
        let host = self.stashes[block].iter().filter(|stash| stash.offloadable);
        let all: Forms = host.map(|stash| (stash.value, Form::Offloaded)).collect();
        exact.extend((!all.is_empty()).then_some(all));
        let all = self.stashes[block].iter().filter(|stash| stash.repeatable);
        exact.push(all.map(|stash| (stash.value, Form::Recomputed)).collect());
        if stashes.iter().any(|stash| !in_code(stash).is_empty()) {
            let mut all = vec![Forms::new()];
            for stash in &stashes {
                let forms = open(stash);
                if all.len() * (forms.len() + 1) <= COMBINATIONS {
                    extend(&mut all, stash, &forms);
                } else {
                    for combination in &mut all {
                        let like = combination
                            .get(&stashes[0].value)
                            .and_then(|form| alike(*form, stash));
                        combination.extend(like.map(|form| (stash.value, form)));
                    }
                }
            }
            exact.extend(all);
        }
        self.offer(block, &exact)
    }

    /// The stash between two blocks, if it is one that need not be whole.
    fn boundary(&self, block: usize) -> Option<ValueId> {
        let value = (*self.blocks.entries.get(block)?)?;
        let stash = self.scale.outline.stash(value)?;
        (!open(stash).is_empty()).then_some(value)
    }

    /// Bytes of what else is made again to make the map a block is left with, and whether what it is entered with is among it.
    fn made_for(&self, left: ValueId, forms: &Forms, entered: Option<ValueId>) -> (u64, bool) {
        let again = forms.iter().filter(|(value, form)| {
            form.is_made_again() && **value != left && self.reaches(left, **value, forms)
        });
        let again: Vec<ValueId> = again.map(|(value, _)| *value).collect();
        let bytes = again.iter().map(|value| self.scale.bytes[value.0]);
        let linked = entered.is_some_and(|entered| again.contains(&entered));
        (bytes.sum(), linked)
    }

    /// Whether something is made again from `source`.
    fn makes(&self, source: ValueId, forms: &Forms) -> bool {
        let mut others = forms.iter().filter(|(value, _)| **value != source);
        others.any(|(value, form)| form.is_made_again() && self.reaches(*value, source, forms))
    }

    /// Whether `value` is made again from `source`, directly or by way of others that are.
    fn reaches(&self, value: ValueId, source: ValueId, forms: &Forms) -> bool {
        let outline = &self.scale.outline;
        let held = |id: ValueId| outline.is_stash(id) && !forms.contains_key(&id);
        let producer = outline.producer(value);
        let inputs = producer.map_or(&[][..], |at| outline.reads(at));
        let mut inputs = inputs.iter().copied().map(ValueId);
        inputs.any(|input| input == source || !held(input) && self.reaches(input, source, forms))
    }

    /// Weighs these forms, with the map the block is entered with in each state, and takes what nothing dominates.
    fn offer(&self, block: usize, combinations: &[Forms]) -> Vec<Way> {
        let mut ways = Vec::new();
        let (entered, left) = (self.boundary(block), self.boundary(block + 1));
        let stash = entered.and_then(|value| self.scale.outline.stash(value));
        let entries = [
            Some((WHOLE, Form::Whole)),
            stash.and_then(|stash| stash.repeatable.then_some((AGAIN, Form::Recomputed))),
            stash.and_then(|stash| Some((CODED, *in_code(stash).first()?))),
            // In how many does not matter here: they are made in the block before.
            stash.and_then(|stash| Some((SLICED, Form::Sliced(stash.slices.last()?.0)))),
            stash.and_then(|stash| stash.offloadable.then_some((OFFLOADED, Form::Offloaded))),
        ];
        let all = self.whole[block];
        let part = Part::new(self.scale, self.blocks, block, &self.lives);
        let Ok(plain) = part.weigh(&Forms::new()) else {
            return ways;
        };
        for (entry, form) in entries.into_iter().flatten() {
            let before: Forms = entered.map(|value| (value, form)).into_iter().collect();
            let Ok(base) = part.weigh(&before) else {
                continue;
            };
            let held: u64 = before
                .iter()
                .map(|(value, form)| self.scale.held(*value, *form))
                .sum();
            let whole: u64 = before.keys().map(|value| self.scale.bytes[value.0]).sum();
            let below = self.whole[..block].iter().sum::<u64>() + held - whole;
            let mut fronts: [Vec<Way>; STATES] = Default::default();
            for forms in combinations {
                let exit = match left.and_then(|value| forms.get(&value)) {
                    None | Some(Form::Whole) => WHOLE,
                    Some(Form::Recomputed) => AGAIN,
                    Some(Form::Sliced(_)) => SLICED,
                    Some(Form::Coded(_) | Form::Masked(_)) => CODED,
                    Some(Form::Offloaded) => OFFLOADED,
                };
                let mut joined = before.clone();
                joined.extend(forms.clone());
                let Ok(weight) = part.weigh(&joined) else {
                    continue;
                };
                let (made, linked) = match left.filter(|_| exit == AGAIN) {
                    Some(left) => self.made_for(left, &joined, entered),
                    None => (0, false),
                };
                // The map it is entered with stands as a copy from its first reader on, or from when something is made again of it.
                let [forward, early, late] = weight.peaks(block);
                let [before, behind] = if entered.is_some_and(|map| self.makes(map, &joined)) {
                    [forward, early.max(late)]
                } else {
                    [forward.max(early), late]
                };
                // A code and a slope beside it, both aligned, may take more than a small map.
                let held = forms
                    .iter()
                    .map(|(value, form)| self.scale.held(*value, *form));
                let held: u64 = held.sum();
                let replaced: u64 = forms.keys().map(|value| self.scale.bytes[value.0]).sum();
                let way = Way {
                    arc: Arc {
                        from: block,
                        to: block + 1,
                        entry,
                        exit,
                        kept: all - replaced + held,
                        before: before.saturating_sub(below),
                        behind: behind.saturating_sub(below),
                        made,
                        linked,
                        copied: entry == AGAIN,
                        cost: weight.seconds - base.seconds.max(plain.seconds),
                    },
                    variance: weight.variance - base.variance,
                    forms: forms.clone(),
                };
                let front = &mut fronts[exit];
                if !front.iter().any(|other| other.dominates(&way)) {
                    front.retain(|other| !way.dominates(other));
                    front.push(way);
                }
            }
            ways.extend(fronts.into_iter().flatten());
        }
        ways
    }
}

/// Adds to combinations those with a stash in each of some forms.
fn extend(combinations: &mut Vec<Forms>, stash: &Stash, forms: &[Form]) {
    let with = |form: &Form| {
        let form = *form;
        combinations.iter().cloned().map(move |mut other| {
            other.insert(stash.value, form);
            other
        })
    };
    let more: Vec<Forms> = forms.iter().flat_map(with).collect();
    combinations.extend(more);
}

/// The form of a stash that is most like one of another: the same, or a code of the same width.
fn alike(form: Form, stash: &Stash) -> Option<Form> {
    let width = |form: Form| match form {
        Form::Coded(code) | Form::Masked(code) => Some(match code {
            Code::Two | Code::RectifiedTwo => 2,
            Code::Four | Code::Rectified | Code::Bounded => 4,
            Code::Eight | Code::BoundedEight => 8,
            Code::Half => 16,
            Code::Slope | Code::SlopeSix => 0,
        }),
        _ => None,
    };
    let same = |own: &Form| form == *own || width(form).is_some() && width(form) == width(*own);
    open(stash).into_iter().find(same)
}

/// The forms other than whole that are open to a stash.
fn open(stash: &Stash) -> Vec<Form> {
    let exact = in_full(stash).into_iter();
    exact.chain(in_code(stash)).collect()
}

/// The exact ones: those in which it is made again, and the host's memory.
fn in_full(stash: &Stash) -> Vec<Form> {
    let again = stash.repeatable.then_some(Form::Recomputed);
    let slices = stash.slices.iter().map(|(count, _)| Form::Sliced(*count));
    let slices = slices.filter(|_| stash.repeatable);
    let host = stash.offloadable.then_some(Form::Offloaded);
    again.into_iter().chain(slices).chain(host).collect()
}

/// The codes worth trying: f16 takes twice the bytes of 8 bits, whose error is far below that of all that is narrower; those that keep to a bound
/// have more error than others of their width.
fn in_code(stash: &Stash) -> Vec<Form> {
    let tried = |(code, _): &&(Code, u64)| *code != Code::Half && !code.is_bounded();
    let codes = stash.codes.iter().filter(tried);
    let masked = stash.masked.iter().filter(tried);
    let codes = codes.map(|(code, _)| Form::Coded(*code));
    let masked = masked.map(|(code, _)| Form::Masked(*code));
    codes.chain(masked).collect()
}
