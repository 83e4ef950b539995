//! Which blocks are live, and of which live ones the gradient is computed.

use super::{GradientMask, Pick};
use crate::removal::mixed;
use smidgen::{Error, Session, SparseLayer};

/// The norms of all blocks of a layer that would be there if it were dense: by output group, then by input quad times taps plus tap.
struct Norms {
    candidates: usize,
    norms: Vec<f64>,
}

impl Norms {
    /// Of numbers in the order of the weight, `[out, in, height, width]`.
    fn of(layer: &SparseLayer, numbers: &[f32]) -> Self {
        let attributes = &layer.attributes;
        let taps = (attributes.kernel[0] * attributes.kernel[1]) as usize;
        let inputs = attributes.input_channels as usize;
        let candidates = layer.candidates as usize;
        let outputs = attributes.output_channels as usize;
        let rows = 4 * layer.blocks.block_quads as usize;
        let mut norms = vec![0.0; outputs.div_ceil(rows) * candidates];
        for (at, number) in numbers.iter().enumerate() {
            let (tap, input, output) = (at % taps, at / taps % inputs, at / taps / inputs);
            let block = input / 4 * taps + tap;
            norms[output / rows * candidates + block] += f64::from(*number).powi(2);
        }
        norms.iter_mut().for_each(|norm| *norm = norm.sqrt());
        Self { candidates, norms }
    }

    fn at(&self, group: usize, block: u32) -> f64 {
        self.norms[group * self.candidates + block as usize]
    }
}

/// Keeps, in every output group, the `keep` live blocks of the largest norm of the weight plus `alpha` times that of its gradient (the
/// importance to what is learned now and to what is rehearsed, both of which the gradient is of); then grows up to `live` at random among
/// those that were not live.
pub(super) fn mutate(
    session: &mut Session,
    layer: &SparseLayer,
    [keep, live]: [u32; 2],
    alpha: f64,
    seed: u64,
) -> Result<(), Error> {
    let weights = Norms::of(layer, &session.read(&layer.name)?);
    let gradient = session.read(&format!("gradient of {}", layer.name))?;
    let gradients = Norms::of(layer, &gradient);
    let slots = layer.blocks.slots as usize;
    let mut blocks = session.live_blocks(&layer.name)?;
    for (group, own) in blocks.chunks_mut(slots).enumerate() {
        let before: Vec<u32> = own.iter().flatten().copied().collect();
        let importance = |block: u32| weights.at(group, block) + alpha * gradients.at(group, block);
        let mut ranked: Vec<usize> = (0..slots).filter(|slot| own[*slot].is_some()).collect();
        let of_slot = |slot: usize| own[slot].map_or(0.0, importance);
        ranked.sort_by(|a, b| of_slot(*b).total_cmp(&of_slot(*a)));
        let gone: Vec<usize> = ranked.split_off((keep as usize).min(ranked.len()));
        let kept = ranked.len();
        for slot in gone {
            own[slot] = None;
        }
        let mut free: Vec<u32> = (0..layer.candidates)
            .filter(|block| !before.contains(block))
            .collect();
        free.sort_by_key(|block| mixed(seed, (group as u64) << 32 | u64::from(*block)));
        let mut free = free.into_iter();
        let empty = own.iter_mut().filter(|block| block.is_none());
        for block in empty.take((live as usize).saturating_sub(kept)) {
            *block = free.next();
        }
    }
    session.set_live_blocks(&layer.name, &blocks)
}

/// Computes, until it is chosen again, the gradients of a share of the live blocks of every output group, and tells how many of how
/// many.
pub(super) fn choose_gradients(
    session: &mut Session,
    layer: &SparseLayer,
    mask: &GradientMask,
    seed: u64,
) -> Result<[u64; 2], Error> {
    let gradients = match mask.pick {
        Pick::Largest => {
            let gradient = session.read(&format!("gradient of {}", layer.name))?;
            Some(Norms::of(layer, &gradient))
        }
        Pick::Random => None,
    };
    let blocks = session.live_blocks(&layer.name)?;
    let slots = layer.blocks.slots as usize;
    let mut chosen = vec![false; blocks.len()];
    let mut counts = [0, 0];
    for (group, own) in blocks.chunks(slots).enumerate() {
        let mut ranked: Vec<(f64, usize)> = (own.iter().enumerate())
            .filter_map(|(slot, block)| {
                let at = (group * slots + slot) as u64;
                let score = match &gradients {
                    Some(gradients) => gradients.at(group, (*block)?),
                    None => block.map(|_| mixed(seed, at) as f64)?,
                };
                Some((score, slot))
            })
            .collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
        let count = (ranked.len() as f64 * mask.share).ceil() as usize;
        counts[0] += count as u64;
        counts[1] += ranked.len() as u64;
        for (_, slot) in &ranked[..count] {
            chosen[group * slots + slot] = true;
        }
    }
    session.choose_gradients(&layer.name, |slot| chosen[slot])?;
    Ok(counts)
}
