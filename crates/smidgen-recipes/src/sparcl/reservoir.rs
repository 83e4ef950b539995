//! Which pictures the memory on the device holds: every picture seen so far with the same probability (Vitter, "Random Sampling with a
//! Reservoir", 1985).

use crate::removal::mixed;

/// The host's side of the memory: which slot holds what class. The pictures and logits are on the device.
#[derive(Debug, Clone)]
pub(super) struct Reservoir {
    labels: Vec<Option<u32>>,
    seen: u64,
    drawn: u64,
    seed: u64,
}

impl Reservoir {
    pub(super) fn new(slots: u32, seed: u64) -> Self {
        Self {
            labels: vec![None; slots as usize],
            seen: 0,
            drawn: 0,
            seed,
        }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.drawn += 1;
        // The bias of a remainder of 64 bits is far below anything that could be seen.
        mixed(self.seed, self.drawn) % limit.max(1)
    }

    /// A slot that holds something, and its class; `None` while the memory is empty.
    pub(super) fn draw(&mut self) -> Option<(u32, u32)> {
        let filled = self.seen.min(self.labels.len() as u64);
        if filled == 0 {
            return None;
        }
        let slot = self.below(filled) as usize;
        self.labels[slot].map(|label| (slot as u32, label))
    }

    /// The slot that a picture of this class takes, if it takes one. No two pictures of a batch may take the same: `taken` are those that
    /// have been given in it, and the later picture of two goes without.
    pub(super) fn offer(&mut self, label: u32, taken: &mut Vec<u32>) -> Option<u32> {
        self.seen += 1;
        let slots = self.labels.len() as u64;
        let slot = if self.seen <= slots {
            self.seen - 1
        } else {
            self.below(self.seen)
        };
        if slot >= slots || taken.contains(&(slot as u32)) {
            return None;
        }
        self.labels[slot as usize] = Some(label);
        taken.push(slot as u32);
        Some(slot as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_and_late_pictures_are_held_alike() {
        let mut held = [0_u32; 4];
        for seed in 0..40 {
            let mut reservoir = Reservoir::new(50, seed);
            assert_eq!(reservoir.draw(), None);
            for picture in 0..1000 {
                reservoir.offer(picture / 250, &mut Vec::new());
            }
            for label in reservoir.labels.iter().flatten() {
                held[*label as usize] += 1;
            }
            assert!(reservoir.draw().is_some());
        }
        assert_eq!(held.iter().sum::<u32>(), 2000);
        assert!(
            held.iter().all(|count| (420..580).contains(count)),
            "{held:?}"
        );
    }

    #[test]
    fn a_batch_takes_no_slot_twice() {
        let mut reservoir = Reservoir::new(3, 1);
        let mut taken = Vec::new();
        for _ in 0..100 {
            reservoir.offer(0, &mut taken);
        }
        taken.sort_unstable();
        taken.dedup();
        assert!(taken.len() <= 3);
    }
}
