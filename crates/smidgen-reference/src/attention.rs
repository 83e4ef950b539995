//! Scaled dot product attention, row-major.

/// Sizes of an attention; queries, keys and values are `[heads][tokens][width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionCase {
    /// What is special about it.
    pub name: &'static str,
    /// Sequences.
    pub batch: usize,
    /// Heads of a sequence.
    pub heads: usize,
    /// Tokens.
    pub tokens: usize,
    /// Elements of a query.
    pub width: usize,
}

/// The gradients of an attention.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients {
    /// Of the queries.
    pub query: Vec<f64>,
    /// Of the keys.
    pub key: Vec<f64>,
    /// Of the values.
    pub value: Vec<f64>,
}

impl AttentionCase {
    /// A case.
    #[must_use]
    pub const fn new(name: &'static str, [batch, heads, tokens, width]: [usize; 4]) -> Self {
        Self {
            name,
            batch,
            heads,
            tokens,
            width,
        }
    }

    /// Number of elements of the queries.
    #[must_use]
    pub fn count(&self) -> usize {
        self.batch * self.heads * self.tokens * self.width
    }

    fn row<'v>(&self, values: &'v [f64], head: usize, token: usize) -> &'v [f64] {
        &values[(head * self.tokens + token) * self.width..][..self.width]
    }
}

/// The cases of attention.
#[must_use]
pub fn cases() -> Vec<AttentionCase> {
    vec![
        AttentionCase::new("one token", [1, 1, 1, 5]),
        AttentionCase::new("odd sizes", [2, 3, 7, 5]),
        AttentionCase::new("more tokens than lanes", [1, 2, 131, 16]),
        AttentionCase::new("one element a token", [1, 2, 64, 1]),
    ]
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Softmax of the scaled scores of one query.
fn probabilities(
    case: &AttentionCase,
    query: &[f64],
    key: &[f64],
    head: usize,
    token: usize,
) -> Vec<f64> {
    let own = case.row(query, head, token);
    let scale = 1.0 / (case.width as f64).sqrt();
    let scores: Vec<f64> = (0..case.tokens)
        .map(|other| scale * dot(own, case.row(key, head, other)))
        .collect();
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
    scores
        .iter()
        .map(|score| (score - largest).exp() / total)
        .collect()
}

/// `softmax(query key' / sqrt(width)) value`.
#[must_use]
pub fn forward(case: &AttentionCase, query: &[f64], key: &[f64], value: &[f64]) -> Vec<f64> {
    let mut output = vec![0.0; case.count()];
    for head in 0..case.batch * case.heads {
        for token in 0..case.tokens {
            let mixing = probabilities(case, query, key, head, token);
            for (other, probability) in mixing.iter().enumerate() {
                for (element, value) in case.row(value, head, other).iter().enumerate() {
                    output[(head * case.tokens + token) * case.width + element] +=
                        probability * value;
                }
            }
        }
    }
    output
}

/// The gradients of queries, keys and values.
#[must_use]
pub fn backward(
    case: &AttentionCase,
    query: &[f64],
    key: &[f64],
    value: &[f64],
    output_gradient: &[f64],
) -> Gradients {
    let mut gradients = Gradients {
        query: vec![0.0; case.count()],
        key: vec![0.0; case.count()],
        value: vec![0.0; case.count()],
    };
    let scale = 1.0 / (case.width as f64).sqrt();
    for head in 0..case.batch * case.heads {
        for token in 0..case.tokens {
            let own = (head * case.tokens + token) * case.width;
            let mixing = probabilities(case, query, key, head, token);
            let slopes: Vec<f64> = (0..case.tokens)
                .map(|other| {
                    dot(
                        case.row(output_gradient, head, token),
                        case.row(value, head, other),
                    )
                })
                .collect();
            let mean = dot(&mixing, &slopes);
            for other in 0..case.tokens {
                let theirs = (head * case.tokens + other) * case.width;
                let score = scale * mixing[other] * (slopes[other] - mean);
                for element in 0..case.width {
                    gradients.value[theirs + element] +=
                        mixing[other] * output_gradient[own + element];
                    gradients.query[own + element] += score * key[theirs + element];
                    gradients.key[theirs + element] += score * query[own + element];
                }
            }
        }
    }
    gradients
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::widen;
    use crate::numbers::{finite_differences, normal};

    #[test]
    fn the_gradients_are_those_of_finite_differences() {
        let case = AttentionCase::new("small", [1, 2, 4, 3]);
        let [q, k, v, dy] = [1, 2, 3, 4].map(|seed| widen(&normal(seed, case.count())));
        let loss = |q: &[f64], k: &[f64], v: &[f64]| dot(&forward(&case, q, k, v), &dy);
        let gradients = backward(&case, &q, &k, &v, &dy);
        let pairs = [
            (
                &gradients.query,
                finite_differences(&q, 1e-5, |q| loss(q, &k, &v)),
            ),
            (
                &gradients.key,
                finite_differences(&k, 1e-5, |k| loss(&q, k, &v)),
            ),
            (
                &gradients.value,
                finite_differences(&v, 1e-5, |v| loss(&q, &k, v)),
            ),
        ];
        for (actual, expected) in pairs {
            for (actual, expected) in actual.iter().zip(expected) {
                assert!((actual - expected).abs() < 1e-8, "{actual} {expected}");
            }
        }
    }
}
