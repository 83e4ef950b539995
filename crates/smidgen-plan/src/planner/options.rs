//! The ways to run each block.

use super::blocks::Blocks;
use super::weigh::Scale;
use crate::chain::Arc;
use smidgen_graph::ValueId;
use smidgen_graph::forms::{Code, Form, Forms, Stash};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The map between two blocks is held whole, made again, or in a code.
pub(super) const STATES: usize = 3;
const WHOLE: usize = 0;
const AGAIN: usize = 1;
const CODED: usize = 2;

/// About so many combinations of forms are tried in a block.
const COMBINATIONS: usize = 432;
/// Stashes of less than this part of the block's largest stay whole.
const SMALL: u64 = 64;
/// So many blocks in a row may be made again from one map.
const LONGEST: usize = 12;

/// A way to run some blocks.
#[derive(Debug, Clone)]
pub(super) struct Way {
    /// Its cost is its time beyond that of the same blocks with everything whole.
    pub(super) arc: Arc,
    pub(super) variance: f64,
    /// Of the stashes made in these blocks.
    pub(super) forms: Forms,
}

impl Way {
    /// Whether nothing speaks for the other way.
    fn dominates(&self, other: &Self) -> bool {
        self.arc.kept <= other.arc.kept
            && self.arc.peak <= other.arc.peak
            && self.arc.cost <= other.arc.cost
            && self.variance <= other.variance
    }
}

/// All undominated ways to run every block, and rows of blocks that are made again from the map they are entered with.
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
    let plain = scale.weigh(&Forms::new());
    let chain = Chain {
        scale,
        blocks,
        whole: whole.collect(),
        seconds: plain.map_or(0.0, |weight| weight.seconds),
        stashes,
    };
    // Blocks do not depend on each other. Each thread takes the next one that nobody has begun.
    let next = AtomicUsize::new(0);
    let work = || {
        let mut found = Vec::new();
        loop {
            let from = next.fetch_add(1, Ordering::Relaxed);
            if from >= count {
                return found;
            }
            let mut ways = chain.block(from);
            for to in from + 2..=count.min(from + LONGEST) {
                ways.extend(chain.row(from, to));
            }
            found.push((from, ways));
        }
    };
    let threads =
        std::thread::available_parallelism().map_or(1, |threads| threads.get().min(count));
    let mut found: Vec<(usize, Vec<Way>)> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut found = work();
        for other in others {
            found.extend(
                other
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            );
        }
        found
    });
    found.sort_by_key(|(from, _)| *from);
    found.into_iter().flat_map(|(_, ways)| ways).collect()
}

struct Chain<'a> {
    scale: &'a Scale<'a>,
    blocks: &'a Blocks,
    stashes: Vec<Vec<&'a Stash>>,
    /// By block: bytes of its stashes, all whole.
    whole: Vec<u64>,
    /// Of a step in which all are whole.
    seconds: f64,
}

impl Chain<'_> {
    /// Every combination of exact forms in one block; and of all forms, where there are too many with the smaller stashes held as the
    /// largest is.
    fn block(&self, from: usize) -> Vec<Way> {
        let mut stashes = self.stashes[from].clone();
        stashes.sort_by_key(|stash| std::cmp::Reverse(stash.bytes));
        let largest = stashes.first().map_or(0, |stash| stash.bytes);
        stashes.retain(|stash| stash.bytes * SMALL >= largest && !open(stash).is_empty());
        let mut exact = vec![Forms::new()];
        for stash in stashes.iter().filter(|stash| stash.repeatable) {
            if exact.len() < COMBINATIONS / 2 {
                extend(&mut exact, stash, &[Form::Recomputed]);
            }
        }
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
        self.offer(from, from + 1, &exact)
    }

    /// Everything in a row of blocks made again but the map it is left with, which is held in any of its forms.
    fn row(&self, from: usize, to: usize) -> Vec<Way> {
        let left = self.boundary(to);
        let again = self.stashes[from..to].iter().flatten();
        let again = again.filter(|stash| stash.repeatable && Some(stash.value) != left);
        let forms: Forms = again.map(|stash| (stash.value, Form::Recomputed)).collect();
        let mut combinations = vec![forms.clone()];
        let codes = left.and_then(|value| self.scale.outline.stash(value));
        for form in codes.map(in_code).unwrap_or_default() {
            let mut coded = forms.clone();
            coded.extend(left.map(|value| (value, form)));
            combinations.push(coded);
        }
        self.offer(from, to, &combinations)
    }

    /// The stash between two blocks, if it is one that need not be whole.
    fn boundary(&self, block: usize) -> Option<ValueId> {
        let value = (*self.blocks.entries.get(block)?)?;
        let stash = self.scale.outline.stash(value)?;
        (!open(stash).is_empty()).then_some(value)
    }

    /// Whether `value` is made again from `source`, directly or by way of others that are.
    fn reaches(&self, value: ValueId, source: ValueId, forms: &Forms) -> bool {
        let outline = self.scale.outline;
        let held = |id: ValueId| outline.is_stash(id) && !forms.contains_key(&id);
        let producer = outline.producer(value);
        let inputs = producer.map_or(&[][..], |at| outline.reads(at));
        let mut inputs = inputs.iter().copied().map(ValueId);
        inputs.any(|input| input == source || !held(input) && self.reaches(input, source, forms))
    }

    /// Weighs these forms, with the map the blocks are entered with in each state, and takes what nothing dominates.
    fn offer(&self, from: usize, to: usize, combinations: &[Forms]) -> Vec<Way> {
        let mut ways = Vec::new();
        let (entered, left) = (self.boundary(from), self.boundary(to));
        let stash = entered.and_then(|value| self.scale.outline.stash(value));
        let entries = [
            Some((WHOLE, Form::Whole)),
            stash.and_then(|stash| stash.repeatable.then_some((AGAIN, Form::Recomputed))),
            stash.and_then(|stash| Some((CODED, *in_code(stash).first()?))),
        ];
        let all: u64 = self.whole[from..to].iter().sum();
        for (entry, form) in entries.into_iter().flatten() {
            let before: Forms = entered.map(|value| (value, form)).into_iter().collect();
            let Ok(base) = self.scale.weigh(&before) else {
                continue;
            };
            let held: u64 = before
                .iter()
                .map(|(value, form)| self.scale.held(*value, *form))
                .sum();
            let whole: u64 = before.keys().map(|value| self.scale.bytes[value.0]).sum();
            let below = self.whole[..from].iter().sum::<u64>() + held - whole;
            let mut fronts: [Vec<Way>; STATES] = Default::default();
            for forms in combinations {
                let exit = match left.and_then(|value| forms.get(&value)) {
                    None | Some(Form::Whole) => WHOLE,
                    Some(Form::Recomputed) => AGAIN,
                    Some(Form::Coded(_) | Form::Masked(_)) => CODED,
                };
                // What is made again at the end of a block from what it is entered with needs that to be there already.
                if let (AGAIN | CODED, AGAIN, Some(entered), Some(left)) =
                    (entry, exit, entered, left)
                    && self.reaches(left, entered, forms)
                {
                    continue;
                }
                let mut joined = before.clone();
                joined.extend(forms.clone());
                let Ok(weight) = self.scale.weigh(&joined) else {
                    continue;
                };
                let own = forms.iter().map(|(value, form)| {
                    self.scale.bytes[value.0] - self.scale.held(*value, *form)
                });
                let way = Way {
                    arc: Arc {
                        from,
                        to,
                        entry,
                        exit,
                        kept: all - own.sum::<u64>(),
                        peak: weight.peak(from, to).saturating_sub(below),
                        cost: weight.seconds - base.seconds.max(self.seconds),
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
            Code::Four | Code::Rectified => 4,
            Code::Eight => 8,
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
    let again = stash.repeatable.then_some(Form::Recomputed);
    again.into_iter().chain(in_code(stash)).collect()
}

/// The codes worth trying: f16 takes twice the bytes of 8 bits, whose error is far below that of all that is narrower.
fn in_code(stash: &Stash) -> Vec<Form> {
    let tried = |(code, _): &&(Code, u64)| *code != Code::Half;
    let codes = stash.codes.iter().filter(tried);
    let masked = stash.masked.iter().filter(tried);
    let codes = codes.map(|(code, _)| Form::Coded(*code));
    let masked = masked.map(|(code, _)| Form::Masked(*code));
    codes.chain(masked).collect()
}
