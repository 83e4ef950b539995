// input_gradient[c, pixel] = sum over taps t:  weight[c, t] * average[c, patch of the pixel + first - t * step]
// With the sum of all taps as the only one, each patch is multiplied. EVERY_TAP: with the weight itself; patches outside count as zero.
// ACCUMULATE: added to what is there. MASK: the result is zero where not low < value < high, the derivative of the layer before.
// SLOPES: the same by bits that ops/keep_slopes.wgsl kept. SCALE: times the scale of the normalisation before that layer.
// PATCHES_ONLY: not written to the pixels but once a patch, as the mean over its pixels, times `factor`: the patch averages of the layer before, if
// that is filtered by the same patches. SLOPES then are the counts that patch_pool.wgsl made: of how many pixels the slope is 1.
//
// Tile: one patch of QUADS quads an invocation, one after the other, written to all its pixels; the last invocations may have fewer.
// Dispatch: [ceil(patches / LANES) * ceil(quads / QUADS)] workgroups of LANES, folded.
#import common/grid
#import common/patches

struct Params {
    // Of all images.
    patches: u32,
    pixels: u32,
    quads: u32,
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
@group(0) @binding(2) var<storage, read_write> weight: array<vec4<f32>>;
#ifdef MASK
@group(0) @binding(3) var<storage, read_write> value: array<vec4<f32>>;
const AFTER_MASK = 4;
#else
#ifdef SLOPES
@group(0) @binding(3) var<storage, read_write> slopes: array<u32>;
const AFTER_MASK = 4;
#else
const AFTER_MASK = 3;
#endif
#endif
#ifdef SCALE
@group(0) @binding(AFTER_MASK) var<storage, read_write> normalisation: array<vec4<f32>>;
const AFTER_SCALE = AFTER_MASK + 1;
#else
const AFTER_SCALE = AFTER_MASK;
#endif
@group(0) @binding(AFTER_SCALE) var<storage, read_write> input_gradient: array<vec4<f32>>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = flat_workgroup(workgroup, workgroups);
    let patch_groups = (params.patches + LANES - 1u) / LANES;
    let quad_group = group / patch_groups;
    let at = (group - quad_group * patch_groups) * LANES + lane;
    if at >= params.patches {
        return;
    }
    let place = patch_place(at, params.patches_y, params.patches_x);
    let rows = patch_rows(place.y, params.patches_y, params.window_y, params.offset_y, params.height);
    let columns = patch_rows(place.x, params.patches_x, params.window_x, params.offset_x, params.width);
    let end = min((quad_group + 1u) * QUADS, params.quads);
    for (var quad = quad_group * QUADS; quad < end; quad++) {
#ifdef EVERY_TAP
        var sum = vec4<f32>();
        for (var tap = 0u; tap < params.taps; tap++) {
            let tap_y = tap / params.taps_x;
            let from_y = place.y + params.first_y - tap_y * params.step_y;
            let from_x = place.x + params.first_x - (tap - tap_y * params.taps_x) * params.step_x;
            let inside = from_y < params.patches_y && from_x < params.patches_x;
            let source = select(0u, (place.image * params.patches_y + from_y) * params.patches_x + from_x, inside);
            let gradient = select(vec4<f32>(), average[quad * params.patches + source], inside);
            sum = fma(weight[quad * params.taps + tap], gradient, sum);
        }
#else
        let sum = weight[quad] * average[quad * params.patches + at];
#endif
#ifdef SCALE
        let scale = normalisation[4u * quad];
#else
        let scale = vec4<f32>(1.0);
#endif
#ifdef PATCHES_ONLY
        var result = sum * scale * params.factor;
#ifdef SLOPES
        let counts = (vec4<u32>(slopes[quad * params.patches + at]) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u);
        result *= vec4<f32>(counts) / f32(max((rows.y - rows.x) * (columns.y - columns.x), 1u));
#endif
        input_gradient[quad * params.patches + at] = result;
#else
        for (var y = rows.x; y < rows.y; y++) {
            let row = (place.image * params.height + y) * params.width;
            for (var x = columns.x; x < columns.y; x++) {
                let pixel = quad * params.pixels + row + x;
                var result = sum;
#ifdef ACCUMULATE
                result += input_gradient[pixel];
#endif
#ifdef MASK
                let before = value[pixel];
                result = select(vec4<f32>(), result, (before > vec4<f32>(params.low)) & (before < vec4<f32>(params.high)));
#endif
#ifdef SLOPES
                let bits = slopes[quad * ((params.pixels + 7u) / 8u) + (row + x) / 8u] >> ((row + x) % 8u * 4u);
                result = select(vec4<f32>(), result, (vec4<u32>(bits) & vec4<u32>(1u, 2u, 4u, 8u)) != vec4<u32>());
#endif
                input_gradient[pixel] = result * scale;
            }
        }
#endif
    }
}
