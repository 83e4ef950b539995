// target[c, p] = bias[c] + sum over taps t:  weight[c, t] * source[c, p * STRIDE + t * DILATION + origin]
// With the taps in reverse this is also the input gradient (of one residue class of the stride).
//
// Tile: an invocation computes TILE neighbouring pixels of a row in one quad; a row of source pixels is loaded once for all taps of that row.
// Dispatch: [ceil(images * count_y * ceil(count_x / TILE) / 64) * quads] workgroups of 64, folded.
// WINDOW = (TILE - 1) * STRIDE_X + (TAPS_X - 1) * DILATION_X + 1 source pixels of a row.
// The source is read through its normalisation and activation, see common/source.wgsl.
// MOMENTS (forward): the statistics of the output are taken as well, see common/group_moments.wgsl.
// DERIVATIVE: the complete input gradient is multiplied with the derivative of the activation behind which the input stood.
#import common/grid
#import common/source

struct Params {
    // Invocations in use for a quad, of them side by side in a row, and rows of one image.
    items: u32,
    tiles: u32,
    count_y: u32,
    count_x: u32,
    quads: u32,
    // Source map.
    source_height: u32,
    source_width: u32,
    source_plane: u32,
    stride_y: u32,
    dilation_y: u32,
    origin_y: i32,
    origin_x: i32,
    // Target map: pixel (y, x) of the tile grid is (y * scale_y + offset_y, x * scale_x + offset_x) of the target.
    target_height: u32,
    target_width: u32,
    target_plane: u32,
    scale_y: u32,
    scale_x: u32,
    offset_y: u32,
    offset_x: u32,
    // Weights: one vec4 a tap, quad * taps + tap, tap = tap_first + tap_y * tap_step_y + tap_x * tap_step_x.
    taps: u32,
    taps_y: u32,
    tap_first: i32,
    tap_step_y: i32,
    tap_step_x: i32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> source: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> weight: array<vec4<f32>>;
#ifdef BIAS
@group(0) @binding(3) var<storage, read_write> bias: array<vec4<f32>>;
const AFTER_BIAS = 4;
#else
const AFTER_BIAS = 3;
#endif
#ifdef NORMALISE
@group(0) @binding(AFTER_BIAS) var<storage, read_write> normalisation: array<vec4<f32>>;
const AFTER_NORMALISATION = AFTER_BIAS + 1;
#else
const AFTER_NORMALISATION = AFTER_BIAS;
#endif
#ifdef DERIVATIVE
@group(0) @binding(AFTER_NORMALISATION) var<storage, read_write> activated: array<vec4<f32>>;
@group(0) @binding(AFTER_NORMALISATION + 1) var<storage, read_write> destination: array<vec4<f32>>;
#else
@group(0) @binding(AFTER_NORMALISATION) var<storage, read_write> destination: array<vec4<f32>>;
#endif
#ifdef MOMENTS
@group(0) @binding(AFTER_NORMALISATION + 1) var<storage, read_write> moments: array<vec4<f32>>;
const QUADS: u32 = 1u;
const LANES: u32 = 64u;
#import common/group_moments
#endif

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = flat_workgroup(workgroup, workgroups);
    let pixel_group = group / params.quads;
    let quad = group - pixel_group * params.quads;
    let item = pixel_group * 64u + lane;
    // Surplus invocations repeat the last item and do not store.
    let item_used = min(item, params.items - 1u);
    let row = item_used / params.tiles;
    let x = (item_used - row * params.tiles) * TILE;
    let image = row / params.count_y;
    let y = row - image * params.count_y;
    let plane_base = quad * params.source_plane + image * params.source_height * params.source_width;
    let first_y = i32(y * params.stride_y) + params.origin_y;
    let first_x = i32(x * STRIDE_X) + params.origin_x;

#for pixel in 0..TILE
#ifdef BIAS
    var sum_{pixel} = bias[quad];
#else
    var sum_{pixel} = vec4<f32>();
#endif
#endfor

#ifdef DERIVATIVE
    let scaling = Scaling();
#else
    let scaling = scaling_of(quad);
#endif
    for (var tap_y = 0u; tap_y < params.taps_y; tap_y++) {
        let source_y = first_y + i32(tap_y * params.dilation_y);
        let row_inside = u32(source_y) < params.source_height;
        let row_base = plane_base + select(0u, u32(source_y), row_inside) * params.source_width;
        var window: array<vec4<f32>, WINDOW>;
#for at in 0..WINDOW
        let column_{at} = u32(first_x + {at});
        let inside_{at} = row_inside && column_{at} < params.source_width;
        window[{at}] = select(vec4<f32>(), load_source(scaling, row_base + select(0u, column_{at}, inside_{at})), inside_{at});
#endfor
        let tap_row = i32(quad * params.taps) + params.tap_first + i32(tap_y) * params.tap_step_y;
#for tap in 0..TAPS_X
        let weight_{tap} = weight[u32(tap_row + {tap} * params.tap_step_x)];
#for pixel in 0..TILE
        sum_{pixel} = fma(weight_{tap}, window[{pixel}u * STRIDE_X + {tap}u * DILATION_X], sum_{pixel});
#endfor
#endfor
    }

#ifdef MOMENTS
    var stored: array<vec4<f32>, TILE>;
#for pixel in 0..TILE
    stored[{pixel}] = sum_{pixel};
#endfor
    note_moments(lane, 0u, moments_of(stored, select(0u, min(TILE, params.count_x - x), item < params.items)));
    store_moments(lane, pixel_group, (params.items + 63u) / 64u, quad, params.quads);
#endif
#ifdef DERIVATIVE
    let target_scaling = scaling_of(quad);
#endif
    let target_row = quad * params.target_plane
        + (image * params.target_height + y * params.scale_y + params.offset_y) * params.target_width + params.offset_x;
#for pixel in 0..TILE
    if item < params.items && x + {pixel}u < params.count_x {
        {
            let element = target_row + (x + {pixel}u) * params.scale_x;
            var result = sum_{pixel};
#ifdef ACCUMULATE
            result += destination[element];
#endif
#ifdef DERIVATIVE
            result = before_activation(target_scaling, element, result);
#endif
            destination[element] = result;
        }
    }
#endfor
}
