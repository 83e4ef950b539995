//! Scaled dot product attention and its gradients.
//!
//! Unlike activations, everything here is plain row-major: queries, keys, values, outputs and their gradients are
//! `[batch, heads, tokens, width]`, the probabilities `[batch, heads, tokens, tokens]` with the query's token first.

use crate::OpsError;
use crate::error::check_regions;
use smidgen_gpu::{DeviceFacts, Launch, Region, folded_grid, params};

const OPERATOR: &str = "attention";

/// The sizes of an attention; scores are divided by the square root of `width`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AttentionShape {
    /// Sequences.
    pub batch: u32,
    /// Heads of each sequence.
    pub heads: u32,
    /// Tokens of each sequence.
    pub tokens: u32,
    /// Elements of a query, a key or a value.
    pub width: u32,
}

/// The regions of [`forward`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionRegions {
    /// Queries.
    pub query: Region,
    /// Keys.
    pub key: Region,
    /// Values.
    pub value: Region,
    /// Softmax of the scaled scores, written here and read by [`backward`]; [`AttentionShape::probability_bytes`] bytes.
    pub probabilities: Region,
    /// The result.
    pub output: Region,
}

/// The regions of [`backward`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionGradientRegions {
    /// Queries.
    pub query: Region,
    /// Keys.
    pub key: Region,
    /// Values.
    pub value: Region,
    /// What the forward pass left.
    pub probabilities: Region,
    /// Gradient of the output.
    pub output_gradient: Region,
    /// [`AttentionShape::probability_bytes`] bytes of scratch.
    pub workspace: Region,
    /// Gradient of the queries.
    pub query_gradient: Region,
    /// Gradient of the keys.
    pub key_gradient: Region,
    /// Gradient of the values.
    pub value_gradient: Region,
}

params! { struct ScoreParams { heads: u32, tokens: u32, width: u32, scale: f32 } }
params! { struct MixParams { heads: u32, tokens: u32, width: u32 } }

impl AttentionShape {
    /// Bytes of queries, keys, values or outputs.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.rows().saturating_mul(u64::from(self.width) * 4)
    }

    /// Bytes of the probabilities.
    #[must_use]
    pub fn probability_bytes(&self) -> u64 {
        self.rows().saturating_mul(u64::from(self.tokens) * 4)
    }

    fn rows(&self) -> u64 {
        let sequences = u64::from(self.batch) * u64::from(self.heads);
        sequences.saturating_mul(u64::from(self.tokens))
    }

    fn check(&self) -> Result<(), OpsError> {
        if [self.batch, self.heads, self.tokens, self.width].contains(&0) {
            return Err(OpsError::shape(
                OPERATOR,
                format!("every size of {self:?} must be at least 1"),
            ));
        }
        // Elements are counted in 32 bits.
        if self.bytes().max(self.probability_bytes()) > 1 << 33 {
            return Err(OpsError::shape(
                OPERATOR,
                format!("{self:?} is too large for one launch, split the batch"),
            ));
        }
        Ok(())
    }

    fn scores(&self, shader: &'static str, regions: Vec<Region>) -> Launch {
        let params = ScoreParams {
            heads: self.batch * self.heads,
            tokens: self.tokens,
            width: self.width,
            scale: (1.0 / f64::from(self.width).sqrt()) as f32,
        };
        Launch::new(shader, &[], &params, regions, folded_grid(self.rows()))
    }

    fn mix(&self, transposed: bool, mixing: Region, input: Region, output: Region) -> Launch {
        let params = MixParams {
            heads: self.batch * self.heads,
            tokens: self.tokens,
            width: self.width,
        };
        let flag = [("TRANSPOSED", String::new())];
        let defines = if transposed { &flag[..] } else { &[] };
        let groups = (self.bytes() / 4).div_ceil(256);
        Launch::new(
            "ops/attention_mix.wgsl",
            defines,
            &params,
            vec![mixing, input, output],
            folded_grid(groups),
        )
    }
}

/// `softmax(query key' / sqrt(width)) value`, head by head.
///
/// # Errors
/// An empty shape, or a region that is too small or too large to bind.
pub fn forward(
    shape: &AttentionShape,
    facts: &DeviceFacts,
    regions: &AttentionRegions,
) -> Result<Vec<Launch>, OpsError> {
    shape.check()?;
    let (bytes, square) = (shape.bytes(), shape.probability_bytes());
    check_regions(
        OPERATOR,
        facts,
        &[
            ("query", regions.query, bytes),
            ("key", regions.key, bytes),
            ("value", regions.value, bytes),
            ("probabilities", regions.probabilities, square),
            ("output", regions.output, bytes),
        ],
    )?;
    let scored = vec![regions.query, regions.key, regions.probabilities];
    Ok(vec![
        shape.scores("ops/attention_scores.wgsl", scored),
        shape.mix(false, regions.probabilities, regions.value, regions.output),
    ])
}

/// The gradients of queries, keys and values.
///
/// # Errors
/// An empty shape, or a region that is too small or too large to bind.
pub fn backward(
    shape: &AttentionShape,
    facts: &DeviceFacts,
    regions: &AttentionGradientRegions,
) -> Result<Vec<Launch>, OpsError> {
    shape.check()?;
    let (bytes, square) = (shape.bytes(), shape.probability_bytes());
    check_regions(
        OPERATOR,
        facts,
        &[
            ("query", regions.query, bytes),
            ("key", regions.key, bytes),
            ("value", regions.value, bytes),
            ("probabilities", regions.probabilities, square),
            ("output gradient", regions.output_gradient, bytes),
            ("workspace", regions.workspace, square),
            ("query gradient", regions.query_gradient, bytes),
            ("key gradient", regions.key_gradient, bytes),
            ("value gradient", regions.value_gradient, bytes),
        ],
    )?;
    let scores = regions.workspace;
    let scored = vec![
        regions.value,
        regions.probabilities,
        regions.output_gradient,
        scores,
    ];
    Ok(vec![
        shape.mix(
            true,
            regions.probabilities,
            regions.output_gradient,
            regions.value_gradient,
        ),
        shape.scores("ops/attention_score_gradient.wgsl", scored),
        shape.mix(false, scores, regions.key, regions.query_gradient),
        shape.mix(true, scores, regions.query, regions.key_gradient),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use smidgen_gpu::testing::assert_params_match;

    #[test]
    fn parameters_match_the_shaders() {
        assert_params_match::<ScoreParams>("ops/attention_scores.wgsl");
        assert_params_match::<ScoreParams>("ops/attention_score_gradient.wgsl");
        assert_params_match::<MixParams>("ops/attention_mix.wgsl");
    }
}
