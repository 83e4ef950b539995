// What a filtered backward pass has at the resolution of patches: the weight gradient (BY_WEIGHT), the input gradient (BY_INPUT), or both in one dispatch.
//
// weight_gradient[o, t, i] = sum over patches p:  average[o, p] * sum[i, p]     for every tap t
// input_gradient[i, pixel] = sum over taps t and output channels o:  weight[o, t, i] * average[o, patch of the pixel + first - t * step]
//
// ACCUMULATE: added to what is there. MASK: the input gradient is zero where not low < value < high, the derivative of the layer before.
// SLOPES: the same by bits that ops/keep_slopes.wgsl kept. SCALE: times the scale of the normalisation before that layer.
// PATCHES_ONLY: not written to the pixels but once a patch, as the mean over its pixels, times `factor`: the patch averages of the layer before, if
// that is filtered by the same patches. SLOPES then are the counts that patch_pool.wgsl made: of how many pixels the slope is 1.
// ALONE: the lanes of a subgroup have an input quad each of the weight gradient, see common/patch_weight_product_subgroup.wgsl.
// Share `split` of several writes to weight_gradient[split], with one tap; spread_taps.wgsl adds the shares.
//
// Tile: common/patch_weight_product.wgsl and common/patch_input_product.wgsl say. LANES invocations.
// Dispatch: [output_groups * input_groups * splits] workgroups, `weight_groups`, for the weight gradient, then
// [ceil(patches / (WIDTH * TILE)) * input_quads / QUADS] for the input gradient, folded.
#import common/grid

struct Params {
    // Of all images.
    patches: u32,
    input_quads: u32,
    output_quads: u32,
    weight_groups: u32,
    output_groups: u32,
    input_groups: u32,
    // A multiple of what a workgroup takes at a time.
    patches_per_split: u32,
    weight_taps: u32,
    // vec4s of one share of the weight gradient.
    weights: u32,
    pixels: u32,
    quad_groups: u32,
    taps: u32,
    taps_x: u32,
    step_y: u32,
    step_x: u32,
    first_y: u32,
    first_x: u32,
    patches_y: u32,
    patches_x: u32,
    height: u32,
    width: u32,
    window_y: u32,
    window_x: u32,
    offset_y: i32,
    offset_x: i32,
    low: f32,
    high: f32,
    factor: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> average: array<vec4<f32>>;
#ifdef BY_WEIGHT
@group(0) @binding(2) var<storage, read_write> patch_sums: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> weight_gradient: array<vec4<f32>>;
const AFTER_WEIGHT = 4;
#else
const AFTER_WEIGHT = 2;
#endif
#ifdef BY_INPUT
@group(0) @binding(AFTER_WEIGHT) var<storage, read_write> weight: array<vec4<f32>>;
#ifdef MASK
@group(0) @binding(AFTER_WEIGHT + 1) var<storage, read_write> value: array<vec4<f32>>;
const AFTER_MASK = AFTER_WEIGHT + 2;
#else
#ifdef SLOPES
@group(0) @binding(AFTER_WEIGHT + 1) var<storage, read_write> slopes: array<u32>;
const AFTER_MASK = AFTER_WEIGHT + 2;
#else
const AFTER_MASK = AFTER_WEIGHT + 1;
#endif
#endif
#ifdef SCALE
@group(0) @binding(AFTER_MASK) var<storage, read_write> normalisation: array<vec4<f32>>;
const AFTER_SCALE = AFTER_MASK + 1;
#else
const AFTER_SCALE = AFTER_MASK;
#endif
@group(0) @binding(AFTER_SCALE) var<storage, read_write> input_gradient: array<vec4<f32>>;
#endif

#ifdef BY_WEIGHT
#ifdef ALONE
#import common/patch_weight_product_subgroup
#else
var<workgroup> shared_sums: array<vec4<f32>, LANES * BLOCKS * 4u>;
#import common/patch_weight_product
#endif
#else
#ifdef SLICES
var<workgroup> shared_sums: array<vec4<f32>, LANES * TILE * QUADS>;
#endif
#endif
#ifdef BY_INPUT
#import common/patch_input_product
#endif

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
#ifdef SUBGROUP
    @builtin(subgroup_invocation_id) subgroup_lane: u32,
#endif
) {
    let group = flat_workgroup(workgroup, workgroups);
#ifdef BY_WEIGHT
#ifdef BY_INPUT
    if group < params.weight_groups {
#endif
#ifdef ALONE
        weight_product(group, subgroup_lane);
#else
        weight_product(group, lane);
#endif
#ifdef BY_INPUT
        return;
    }
#endif
#endif
#ifdef BY_INPUT
#ifdef BY_WEIGHT
    let input_group = group - params.weight_groups;
#else
    let input_group = group;
#endif
#ifdef SUBGROUP
    input_product(input_group, lane, subgroup_lane);
#else
    input_product(input_group, lane);
#endif
#endif
}
