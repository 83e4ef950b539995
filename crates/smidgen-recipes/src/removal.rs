//! Removal of training examples that are not forgotten, the data efficiency of MEST (Yuan et al., NeurIPS 2021) and of SparCL (Wang et al.,
//! NeurIPS 2022), after Toneva et al., "An Empirical Study of Example Forgetting during Deep Neural Network Learning", ICLR 2019.
//!
//! The loss kernel counts on the device, four bytes an example, how often an example was classified rightly and then wrongly. What was
//! forgotten least teaches least: it goes, for the rest of the run. Which examples are removed stands in the same four bytes, so a
//! checkpoint holds it.

use smidgen::{Error, ExampleRecord, Recipe, Remaining, Session};

/// Which examples go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Those forgotten least often; of equal ones those that were learned sooner, then those of lower number. What was never learned
    /// goes last.
    LeastForgotten,
    /// Any: the control.
    Random,
}

/// What is to be removed, and when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RemovalOptions {
    /// The share of the examples that goes, from 0 to below 1.
    pub share: f64,
    /// Which.
    pub choice: Choice,
    /// Epochs of the whole run; the examples go at 7/16 of them, as in MEST.
    pub epochs: u32,
    /// Of a random choice.
    pub seed: u64,
}

/// Removes examples once. The session has to count their forgetting: see [`ExampleMemory`](smidgen::ExampleMemory).
#[derive(Debug, Clone)]
pub struct Removal {
    options: RemovalOptions,
}

const NAME: &str = "removal of examples";

fn wrong(what: String) -> Error {
    Error::Recipe { name: NAME, what }
}

impl Removal {
    /// # Errors
    /// A share outside 0 to below 1, or a run of a single epoch, after which nothing could be left out.
    pub fn new(options: &RemovalOptions) -> Result<Self, Error> {
        let share = options.share;
        if !(0.0..1.0).contains(&share) {
            return Err(wrong(format!(
                "a share of {share} is not from 0 to below 1; give the share of examples that go, such as 0.2"
            )));
        }
        if options.epochs < 2 {
            return Err(wrong(
                "a run of one epoch has shown no example twice; give more epochs".into(),
            ));
        }
        Ok(Self { options: *options })
    }

    /// The first epoch without what was removed.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        (u64::from(self.options.epochs) * 7).div_ceil(16)
    }

    fn count(&self, examples: usize) -> usize {
        (examples as f64 * self.options.share).round() as usize
    }
}

impl Recipe for Removal {
    fn check(&self, session: &mut Session) -> Result<(), Error> {
        if session.examples().counted > 0 {
            return Ok(());
        }
        Err(wrong(
            "the session does not count what is forgotten; give `Training::examples` the number of examples".into(),
        ))
    }

    fn before_epoch(&mut self, session: &mut Session, epoch: u64) -> Result<(), Error> {
        if epoch != self.epoch() {
            return Ok(());
        }
        let mut records = session.example_records()?;
        let count = self.count(records.len());
        remove(&mut records, count, self.options.choice, self.options.seed);
        session.set_example_records(&records)
    }

    fn removals(&self, examples: usize) -> Vec<Remaining> {
        vec![Remaining {
            epoch: self.epoch(),
            examples: examples - self.count(examples),
        }]
    }
}

/// Removes `count` of the examples that are left, and begins counting anew.
pub(crate) fn remove(records: &mut [ExampleRecord], count: usize, choice: Choice, seed: u64) {
    let mut left: Vec<usize> = (0..records.len())
        .filter(|example| !records[*example].is_removed())
        .collect();
    match choice {
        Choice::LeastForgotten => left.sort_by_key(|example| {
            let record = records[*example];
            let count = (record.is_learned()).then_some(record.forgettings());
            (count.unwrap_or(u32::MAX), record.attempts(), *example)
        }),
        Choice::Random => left.sort_by_key(|example| (mixed(seed, *example as u64), *example)),
    }
    for example in left.into_iter().take(count) {
        records[example] = records[example].removed();
    }
    for record in records {
        *record = record.cleared();
    }
}

/// A hash of two numbers (SplitMix64's output function).
pub(crate) fn mixed(seed: u64, number: u64) -> u64 {
    let mut bits =
        seed.wrapping_mul(0xd1b5_4a32_d192_ed03) ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(learned: bool, forgettings: u32, attempts: u32) -> ExampleRecord {
        ExampleRecord(u32::from(learned) << 1 | forgettings << 3 | attempts << 16)
    }

    fn gone(records: &[ExampleRecord]) -> Vec<usize> {
        let all = 0..records.len();
        all.filter(|example| records[*example].is_removed())
            .collect()
    }

    #[test]
    fn the_least_forgotten_go_first_and_the_never_learned_last() {
        let mut records = [
            record(true, 3, 0),
            record(false, 0, 9),
            record(true, 0, 4),
            record(true, 0, 2),
            record(true, 1, 0),
        ];
        for (count, expected) in [(1, vec![3]), (1, vec![2, 3]), (2, vec![0, 2, 3, 4])] {
            let before = records;
            remove(&mut records, count, Choice::LeastForgotten, 0);
            assert_eq!(gone(&records), expected);
            // Counting begins anew; here it goes on from where it was.
            assert!(
                records
                    .iter()
                    .all(|record| record.forgettings() == 0 && record.attempts() == 0)
            );
            for (record, before) in records.iter_mut().zip(before) {
                *record = if record.is_removed() {
                    before.removed()
                } else {
                    before
                };
            }
        }
    }

    #[test]
    fn a_random_choice_follows_from_the_seed() {
        let chosen = |seed| {
            let mut records = [record(true, 0, 0); 100];
            remove(&mut records, 20, Choice::Random, seed);
            gone(&records)
        };
        assert_eq!((chosen(1).len(), chosen(1)), (20, chosen(1)));
        assert_ne!(chosen(1), chosen(2));
    }

    #[test]
    fn nonsense_is_refused() {
        let options = RemovalOptions {
            share: 0.2,
            choice: Choice::Random,
            epochs: 160,
            seed: 1,
        };
        let removal = Removal::new(&options).unwrap();
        assert_eq!(
            removal.removals(50_000),
            [Remaining {
                epoch: 70,
                examples: 40_000
            }]
        );
        for share in [-0.1, 1.0, f64::NAN] {
            assert!(Removal::new(&RemovalOptions { share, ..options }).is_err());
        }
        assert!(
            Removal::new(&RemovalOptions {
                epochs: 1,
                ..options
            })
            .is_err()
        );
    }
}
