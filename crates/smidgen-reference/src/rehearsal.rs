//! The loss of DER++: new samples, samples whose logits are to stay, and samples that are classified again.

use crate::loss::{Loss, cross_entropy};
use std::ops::Range;

/// What a sample has to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Nothing.
    Ignored,
    /// Its label is to be told apart from others of a range of classes.
    New(u32, Range<usize>),
    /// Its logits are to be these.
    Distilled(Vec<f64>),
    /// As new, in a loss with the weight of repetition.
    Repeated(u32, Range<usize>),
}

/// Loss and gradient of `[samples][classes]` logits, a third of which are new; `weights` are those of distillation and repetition. Counts
/// are those of new samples.
#[must_use]
pub fn rehearsal(logits: &[f64], parts: &[Part], classes: usize, weights: [f64; 2]) -> Loss {
    let share = 1.0 / (parts.len() / 3) as f64;
    let mut all = Loss {
        sum: 0.0,
        count: 0,
        top1: 0,
        top5: 0,
        gradient: vec![0.0; logits.len()],
    };
    let rows = logits.chunks(classes).zip(all.gradient.chunks_mut(classes));
    for (part, (row, gradient)) in parts.iter().zip(rows) {
        match part {
            Part::Ignored => {}
            Part::Distilled(kept) => {
                for class in 0..classes {
                    let distance = row[class] - kept[class];
                    all.sum += weights[0] * distance * distance / classes as f64;
                    gradient[class] = weights[0] * 2.0 * distance / classes as f64 * share;
                }
            }
            Part::New(label, range) | Part::Repeated(label, range) => {
                let label = label - range.start as u32;
                let one = cross_entropy(&row[range.clone()], &[label], range.len(), 0.0);
                let is_new = matches!(part, Part::New(..));
                let weight = if is_new { 1.0 } else { weights[1] };
                all.sum += weight * one.sum;
                for (to, from) in gradient[range.clone()].iter_mut().zip(one.gradient) {
                    *to = weight * from * share;
                }
                if is_new {
                    all.count += 1;
                    all.top1 += one.top1;
                    all.top5 += one.top5;
                }
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::widen;
    use crate::numbers::{finite_differences, normal};

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let classes = 5;
        let kept = widen(&normal(7, classes));
        let parts = [
            Part::New(3, 2..4),
            Part::Ignored,
            Part::Distilled(kept.clone()),
            Part::Distilled(kept),
            Part::Repeated(0, 0..5),
            Part::Ignored,
        ];
        let x = widen(&normal(1, 6 * classes));
        let expected = finite_differences(&x, 1e-5, |x| {
            rehearsal(x, &parts, classes, [0.1, 0.5]).sum / 2.0
        });
        let actual = rehearsal(&x, &parts, classes, [0.1, 0.5]);
        for (actual, expected) in actual.gradient.iter().zip(expected) {
            assert!((actual - expected).abs() < 1e-8, "{actual} {expected}");
        }
        assert_eq!(actual.count, 1);
    }
}
