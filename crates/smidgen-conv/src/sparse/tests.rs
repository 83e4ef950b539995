use super::gather::{SparseGatherParams, TransposeParams};
use super::mutate::{MutateParams, NormParams};
use super::strip::{StripParams, WalkParams};
use super::weight_gradient::SparseWeightParams;
use super::weight_strip::WeightStripParams;
use smidgen_gpu::testing::assert_params_match;

#[test]
fn the_parameters_match_their_shaders() {
    assert_params_match::<SparseGatherParams>("conv/sparse_gather.wgsl");
    assert_params_match::<TransposeParams>("conv/sparse_transpose.wgsl");
    assert_params_match::<StripParams>("conv/sparse_strip.wgsl");
    assert_params_match::<WalkParams>("conv/sparse_walk.wgsl");
    assert_params_match::<MutateParams>("conv/sparse_mutate.wgsl");
    assert_params_match::<NormParams>("conv/sparse_block_norms.wgsl");
    assert_params_match::<WeightStripParams>("conv/sparse_weight_strip.wgsl");
    assert_params_match::<SparseWeightParams>("conv/sparse_weight_gradient.wgsl");
}
