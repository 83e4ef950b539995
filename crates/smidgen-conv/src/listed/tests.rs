use super::gather::{ClearParams, ListedParams};
use super::list::{ListParams, MarkParams};
use super::weight_gradient::ListedWeightParams;
use smidgen_gpu::testing::assert_params_match;

#[test]
fn the_parameters_match_their_shaders() {
    assert_params_match::<MarkParams>("conv/list_mark.wgsl");
    assert_params_match::<ListParams>("conv/list_pixels.wgsl");
    assert_params_match::<ClearParams>("conv/clear_unmarked.wgsl");
    assert_params_match::<ListedParams>("conv/listed_gather.wgsl");
    assert_params_match::<ListedWeightParams>("conv/listed_weight_gradient.wgsl");
}
