//! Which step belongs to which epoch, where recipes make epochs shorter.

/// From an epoch on, every epoch has so many examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remaining {
    /// The first such epoch.
    pub epoch: u64,
    /// Examples that are left.
    pub examples: usize,
}

/// Epochs of equal length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    epoch: u64,
    step: u64,
    per_epoch: u64,
}

/// The epochs of a run, known before its first step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Calendar {
    spans: Vec<Span>,
    epochs: u64,
}

impl Calendar {
    /// Epochs of `examples` examples, and of fewer from some epochs on (in the order of the epochs).
    pub(super) fn new(epochs: u64, examples: usize, batch: usize, removals: &[Remaining]) -> Self {
        let steps = |examples: usize| (examples / batch.max(1)).max(1) as u64;
        let mut spans = vec![Span {
            epoch: 0,
            step: 0,
            per_epoch: steps(examples),
        }];
        for remaining in removals.iter().filter(|remaining| remaining.epoch < epochs) {
            let last = spans[spans.len() - 1];
            let span = Span {
                epoch: remaining.epoch,
                step: last.step + (remaining.epoch - last.epoch) * last.per_epoch,
                per_epoch: steps(remaining.examples),
            };
            if remaining.epoch == last.epoch {
                spans.pop();
            }
            spans.push(span);
        }
        Self { spans, epochs }
    }

    /// Steps of the whole run.
    pub(super) fn steps(&self) -> u64 {
        let last = self.spans[self.spans.len() - 1];
        last.step + (self.epochs - last.epoch) * last.per_epoch
    }

    fn span(&self, step: u64) -> Span {
        let at = self.spans.partition_point(|span| span.step <= step);
        self.spans[at - 1]
    }

    /// The epoch that a step is of, and which of its steps it is.
    pub(super) fn at(&self, step: u64) -> (u64, u64) {
        let span = self.span(step);
        let within = step - span.step;
        (
            span.epoch + within / span.per_epoch,
            within % span.per_epoch,
        )
    }

    /// Steps of the epoch that a step is of.
    pub(super) fn per_epoch(&self, step: u64) -> u64 {
        self.span(step).per_epoch
    }

    /// Whether an epoch begins with a step.
    pub(super) fn begins_epoch(&self, step: u64) -> bool {
        self.at(step).1 == 0
    }

    /// Where a step would stand if all epochs were as long as the first, and how long that is: what a schedule over epochs goes by.
    pub(super) fn position(&self, step: u64) -> [u64; 2] {
        let full = self.spans[0].per_epoch;
        let (epoch, within) = self.at(step);
        let position = epoch * full + within * full / self.per_epoch(step);
        [position, full]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_its_epoch() {
        let removals = [(2, 25), (4, 11)].map(|(epoch, examples)| Remaining { epoch, examples });
        let calendar = Calendar::new(6, 43, 10, &removals);
        let mut step = 0;
        for (epoch, length) in [4, 4, 2, 2, 1, 1].into_iter().enumerate() {
            for within in 0..length {
                assert_eq!(calendar.at(step), (epoch as u64, within));
                assert_eq!(calendar.per_epoch(step), length);
                assert_eq!(calendar.begins_epoch(step), within == 0);
                let expected = epoch as u64 * 4 + within * 4 / length;
                assert_eq!(calendar.position(step), [expected, 4]);
                step += 1;
            }
        }
        assert_eq!(calendar.steps(), step);
        assert_eq!(calendar.position(step), [24, 4]);
        let plain = Calendar::new(6, 43, 10, &[]);
        assert_eq!((plain.steps(), plain.position(13)), (24, [13, 4]));
        let at_once = Calendar::new(
            2,
            43,
            10,
            &[Remaining {
                epoch: 0,
                examples: 20,
            }],
        );
        assert_eq!(at_once.steps(), 4);
    }
}
