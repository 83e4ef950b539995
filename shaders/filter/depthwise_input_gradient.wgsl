// input_gradient[c, pixel] = sum over taps t:  weight[c, t] * average[c, patch of the pixel + first - t * step]
// With one tap, the sum of all, each patch is multiplied; with several, patches outside count as zero.
// ACCUMULATE: added to what is there. MASK: the result is zero where not low < value < high, the derivative of the layer before.
//
// Tile: one patch of one quad an invocation, written to all its pixels. Dispatch: [ceil(patches / 64) * quads] workgroups of 64, folded.
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
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> average: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> weight: array<vec4<f32>>;
#ifdef MASK
@group(0) @binding(3) var<storage, read_write> value: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> input_gradient: array<vec4<f32>>;
#else
@group(0) @binding(3) var<storage, read_write> input_gradient: array<vec4<f32>>;
#endif

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = flat_workgroup(workgroup, workgroups);
    let patch_groups = (params.patches + 63u) / 64u;
    let quad = group / patch_groups;
    let at = (group - quad * patch_groups) * 64u + lane;
    if at >= params.patches || quad >= params.quads {
        return;
    }
    let place = patch_place(at, params.patches_y, params.patches_x);
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
    let rows = patch_rows(place.y, params.patches_y, params.window_y, params.offset_y, params.height);
    let columns = patch_rows(place.x, params.patches_x, params.window_x, params.offset_x, params.width);
    for (var y = rows.x; y < rows.y; y++) {
        let row = quad * params.pixels + (place.image * params.height + y) * params.width;
        for (var x = columns.x; x < columns.y; x++) {
            let pixel = row + x;
            var result = sum;
#ifdef ACCUMULATE
            result += input_gradient[pixel];
#endif
#ifdef MASK
            let before = value[pixel];
            result = select(vec4<f32>(), result, (before > vec4<f32>(params.low)) & (before < vec4<f32>(params.high)));
#endif
            input_gradient[pixel] = result;
        }
    }
}
