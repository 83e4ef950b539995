//! The order in which an epoch visits the pictures.

use crate::random::{Draws, Purpose};

/// The order of pictures `0..len` in `epoch` under `seed`.
///
/// The algorithm is written out here so that it stays what it is: a checkpoint names an epoch and a batch, and
/// must find the same pictures there under later versions. It is the Fisher-Yates shuffle: for `last` from
/// `len - 1` down to 1, the pictures at `last` and at a uniform draw from `0..=last` change places. The draws come
/// from PCG-XSH-RR 64/32, its state a SplitMix64 hash of seed and epoch, each the high half of a 32 x 32 bit
/// product with rejection.
///
/// # Panics
/// If `len` is more than `u32::MAX`.
pub fn epoch_order(seed: u64, epoch: u64, len: usize) -> Vec<u32> {
    assert!(
        u32::try_from(len).is_ok(),
        "a data set has at most 2^32 - 1 pictures"
    );
    let mut order: Vec<u32> = (0..len as u32).collect();
    let mut draws = Draws::new(Purpose::Order, seed, epoch, 0);
    for last in (1..len).rev() {
        let other = draws.below(last as u32 + 1) as usize;
        order.swap(last, other);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_permutation_that_depends_on_seed_and_epoch() {
        let order = epoch_order(1, 2, 1000);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..1000));
        assert_eq!(order, epoch_order(1, 2, 1000));
        assert_ne!(order, epoch_order(1, 3, 1000));
        assert_ne!(order, epoch_order(2, 2, 1000));
        assert!(epoch_order(1, 2, 0).is_empty());
    }

    #[test]
    fn every_picture_comes_first_equally_often() {
        let mut counts = [0u32; 5];
        for epoch in 0..5000 {
            counts[epoch_order(9, epoch, 5)[0] as usize] += 1;
        }
        assert!(
            counts.iter().all(|count| (900..1100).contains(count)),
            "{counts:?}"
        );
    }

    /// Resuming from an old checkpoint depends on this never changing.
    #[test]
    fn stays_what_it_is() {
        assert_eq!(epoch_order(1, 0, 10), PINNED);
    }

    const PINNED: [u32; 10] = [2, 3, 4, 0, 1, 6, 8, 5, 7, 9];
}
