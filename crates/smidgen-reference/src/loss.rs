//! Softmax cross entropy with label smoothing.

/// Sizes and options of a cross entropy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossCase {
    /// What is special about it.
    pub name: &'static str,
    /// Samples.
    pub samples: usize,
    /// Classes.
    pub classes: usize,
    /// Share of the target that is spread over all classes.
    pub label_smoothing: f64,
    /// Factor of the logits.
    pub magnitude: f32,
    /// Every so many samples one is ignored; 0 for none.
    pub ignore_every: usize,
}

/// The cases of the cross entropy.
#[must_use]
pub fn cases() -> Vec<LossCase> {
    let case = |name, samples, classes, label_smoothing, magnitude, ignore_every| LossCase {
        name,
        samples,
        classes,
        label_smoothing,
        magnitude,
        ignore_every,
    };
    vec![
        case("one sample", 1, 10, 0.0, 1.0, 0),
        case("one class", 3, 1, 0.0, 1.0, 0),
        case("three classes", 5, 3, 0.0, 1.0, 0),
        case("a usual batch", 128, 10, 0.0, 3.0, 0),
        case("smoothed", 33, 13, 0.1, 2.0, 0),
        case("a thousand classes", 17, 1000, 0.1, 2.0, 0),
        case(
            "more classes than a sweep of all lanes",
            2,
            1027,
            0.0,
            1.0,
            0,
        ),
        case("ignored labels", 29, 10, 0.1, 1.0, 3),
        case("all ignored", 4, 10, 0.0, 1.0, 1),
        case("large logits", 16, 100, 0.0, 1e4, 0),
        case("large logits, smoothed", 16, 11, 0.2, 1e4, 0),
        case("many samples", 5000, 7, 0.0, 1.0, 11),
    ]
}

/// What a batch gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Loss {
    /// Sum over the samples that count.
    pub sum: f64,
    /// Samples that count.
    pub count: u32,
    /// Labels of rank below 1.
    pub top1: u32,
    /// Labels of rank below 5.
    pub top5: u32,
    /// Gradient of the mean loss, `[samples][classes]`.
    pub gradient: Vec<f64>,
}

/// Loss and gradient of `[samples][classes]` logits; samples labelled `u32::MAX` do not count.
#[must_use]
pub fn cross_entropy(logits: &[f64], labels: &[u32], classes: usize, smoothing: f64) -> Loss {
    let count = labels.iter().filter(|label| **label != u32::MAX).count();
    let mut loss = Loss {
        sum: 0.0,
        count: count as u32,
        top1: 0,
        top5: 0,
        gradient: vec![0.0; logits.len()],
    };
    for (sample, label) in labels.iter().enumerate() {
        if *label == u32::MAX {
            continue;
        }
        let label = *label as usize;
        let row = &logits[sample * classes..][..classes];
        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = row.iter().map(|logit| (logit - largest).exp()).sum();
        let mut rank = 0;
        for (class, logit) in row.iter().enumerate() {
            let hit = if class == label { 1.0 - smoothing } else { 0.0 };
            let target = hit + smoothing / classes as f64;
            let log_probability = logit - largest - total.ln();
            if target > 0.0 {
                loss.sum -= target * log_probability;
            }
            loss.gradient[sample * classes + class] =
                (log_probability.exp() - target) / count as f64;
            if *logit > row[label] || *logit == row[label] && class < label {
                rank += 1;
            }
        }
        loss.top1 += u32::from(rank < 1);
        loss.top5 += u32::from(rank < 5);
    }
    loss
}

/// What is known of an example after it was shown once more: whether it is right, was ever right, was removed, how often it was
/// forgotten, and how often it was shown before it was right, from the lowest bits of a word to the highest.
#[must_use]
pub fn shown(record: u32, right: bool) -> u32 {
    let (was_right, mut learned) = (record % 2 == 1, record / 2 % 2 == 1);
    let (removed, mut forgotten, mut attempts) =
        (record / 4 % 2, record / 8 % 8192, record / 65536);
    if was_right && !right && forgotten < 8191 {
        forgotten += 1;
    }
    if right {
        learned = true;
    } else if !learned && attempts < 65535 {
        attempts += 1;
    }
    u32::from(right) + 2 * u32::from(learned) + 4 * removed + 8 * forgotten + 65536 * attempts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::widen;
    use crate::numbers::{finite_differences, normal};

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let labels = [4, 0, u32::MAX, 2];
        let x = widen(&normal(1, 4 * 5));
        let expected = finite_differences(&x, 1e-5, |x| {
            let loss = cross_entropy(x, &labels, 5, 0.1);
            loss.sum / f64::from(loss.count)
        });
        let actual = cross_entropy(&x, &labels, 5, 0.1);
        for (actual, expected) in actual.gradient.iter().zip(expected) {
            assert!((actual - expected).abs() < 1e-9, "{actual} {expected}");
        }
        assert_eq!(actual.count, 3);
    }

    #[test]
    fn among_equal_logits_the_lower_index_wins() {
        let loss = cross_entropy(&[1.0, 1.0, 1.0, 1.0], &[0, 1], 2, 0.0);
        assert_eq!((loss.top1, loss.top5), (1, 2));
    }
}
