// Forward:     target[o, p] = bias[o] + sum over taps t, input channels i:  weight[o, t, i] * source[i, p * STRIDE + t * DILATION + origin]
// TRANSPOSED:  the same sum with the block transposed and the taps in reverse, which is the input gradient (of one residue class of
//              the stride), as in conv/direct.wgsl.
//
// Tile: a workgroup of PIXEL_LANES by QUAD_LANES by DEPTH_LANES invocations computes PIXEL_LANES * TILE pixels that follow each other (row after
// row, image after image) by QUAD_LANES * QUADS target quads, an invocation TILE by QUADS of them. For every DEPTH source quads it holds in
// workgroup memory the patch of source pixels that its pixels see, padding included, and the weights of TAP_ROWS rows of taps; all taps read
// the one patch. DEPTH_LANES invocations take the source quads in turn, and are added up at the end.
// Dispatch: [pixel_groups * quad_groups] workgroups of LANES = PIXEL_LANES * QUAD_LANES * DEPTH_LANES, folded.
//
// The patch is a run of PATCH pixels of the map that common/patch_map.wgsl describes.
// PATCH_LOADS = ceil(PATCH / LANES); WEIGHT_LOADS = ceil(TAP_ROWS * TAPS_X * DEPTH * 4 * QUAD_LANES * QUADS / LANES).
// AHEAD: what a step needs is loaded while the step before it is computed, which pays where few workgroups run.
// The source is read through its normalisation and activation, see common/source.wgsl.
// POSITIONS: so many products of the same sizes, one behind the other in source, weight and target: those of Winograd's method.
// MOMENTS (forward): the statistics of the output are taken as well, see common/tile_moments.wgsl.
// DERIVATIVE: the complete input gradient is multiplied with the derivative of the activation behind which the input stood.
#import common/grid
#import common/patch_map
#import common/source
#import common/turns

struct Params {
    groups: u32,
    // Of one position, where there are several.
    position_groups: u32,
    quad_groups: u32,
    target_quads: u32,
    // Target pixels, COUNT_Y rows of COUNT_X an image.
    pixels: u32,
    // Source map.
    images: u32,
    source_quads: u32,
    source_height: u32,
    source_width: u32,
    source_plane: u32,
    stride_y: u32,
    stride_x: u32,
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
    // Weights: block ((output_quad * taps + tap) * slots + slot), tap = tap_first + tap_y * tap_step_y + tap_x * tap_step_x.
    taps: u32,
    slots: u32,
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
#import common/tile_moments
#endif

const TILE_QUADS: u32 = QUAD_LANES * QUADS;
const TILE_PIXELS: u32 = PIXEL_LANES * TILE;
// Two more than there are quads, so that the rows of a block stand in different banks.
const WEIGHT_STRIDE: u32 = TILE_QUADS + 2u;
const TAPS: u32 = TAP_ROWS * TAPS_X;
const WEIGHTS: u32 = TAPS * DEPTH * 4u * TILE_QUADS;
const WEIGHTS_AT: u32 = DEPTH * PATCH;
const TILE_LANES: u32 = PIXEL_LANES * QUAD_LANES;
// Neighbouring lanes by twos share pixels, and every other lane weights, so that what half a subgroup reads comes at once.
const MIX: u32 = min(QUAD_LANES, 2u);
const DEPTH_OF_LANE: u32 = DEPTH / DEPTH_LANES;

// The patch, then the weights: entry (tap, depth, row of the block, quad).
var<workgroup> held: array<vec4<f32>, HELD>;

// Where in the map of patches the first tap of a target pixel falls.
fn first_tap(pixel: u32) -> u32 {
    let place = place_of(pixel, COUNT_Y, COUNT_X);
    return (place.image * ROWS + place.y * params.stride_y) * COLUMNS + place.x * params.stride_x;
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = flat_workgroup(workgroup, workgroups);
    if group >= params.groups {
        return;
    }
#ifdef POSITIONS
    let position = group / params.position_groups;
    let position_group = group - position * params.position_groups;
    let source_at = position * params.source_quads * params.source_plane;
    let weight_at = position * params.target_quads * params.taps * params.slots * 4u;
    let target_at = position * params.target_quads * params.target_plane;
#else
    let position_group = group;
    let source_at = 0u;
    let weight_at = 0u;
    let target_at = 0u;
#endif
    let pixel_group = position_group / params.quad_groups;
    let first_quad = (position_group - pixel_group * params.quad_groups) * TILE_QUADS;
    let first_pixel = pixel_group * TILE_PIXELS;
    let tile_lane = lane % TILE_LANES;
    let depth_lane = lane / TILE_LANES;
    let pixel_lane = tile_lane / MIX % 8u + tile_lane / (8u * QUAD_LANES) * 8u;
    let quad_lane = tile_lane % MIX + tile_lane / (8u * MIX) % (QUAD_LANES / MIX) * MIX;

    let patch_at = first_tap(first_pixel);
#for pixel in 0..TILE
    // Surplus pixels repeat the last one and are not stored.
    let at_{pixel} = first_tap(min(first_pixel + pixel_lane + {pixel}u * PIXEL_LANES, params.pixels - 1u)) - patch_at;
#endfor
#for load in 0..PATCH_LOADS
    let found_{load} = place_in_source(patch_at + lane + {load}u * LANES);
#endfor

#for quad in 0..QUADS
#ifdef BIAS
    let start_{quad} = select(vec4<f32>(), bias[min(first_quad + quad_lane + {quad}u * QUAD_LANES, params.target_quads - 1u)], depth_lane == 0u);
#else
    let start_{quad} = vec4<f32>();
#endif
#for pixel in 0..TILE
    var sum_{pixel}_{quad} = start_{quad};
#endfor
#endfor

    let row_steps = (params.taps_y + TAP_ROWS - 1u) / TAP_ROWS;
    let steps = params.source_quads / DEPTH * row_steps;
#ifdef AHEAD
    for (var step = 0u; step <= steps; step++) {
        let step_loaded = min(step, steps - 1u);
#else
    for (var step = 0u; step < steps; step++) {
        let step_loaded = step;
#endif
        let source_quad = step_loaded / row_steps * DEPTH;
        let first_loaded = step_loaded % row_steps * TAP_ROWS;
#for depth in 0..DEPTH
#ifdef DERIVATIVE
        let scaling_{depth} = Scaling();
#else
        let scaling_{depth} = scaling_of(source_quad + {depth}u);
#endif
#for load in 0..PATCH_LOADS
        let patch_{depth}_{load} = source[source_at + (source_quad + {depth}u) * params.source_plane + found_{load}.pixel];
#endfor
#endfor
#for load in 0..WEIGHT_LOADS
        let entry_{load} = lane + {load}u * LANES;
        let block_row_{load} = entry_{load} % 4u;
#ifdef TRANSPOSED
        let quad_{load} = entry_{load} / 4u % TILE_QUADS;
        let tap_{load} = entry_{load} / (4u * TILE_QUADS) % TAPS;
        let depth_{load} = entry_{load} / (4u * TILE_QUADS * TAPS);
#else
        let depth_{load} = entry_{load} / 4u % DEPTH;
        let tap_{load} = entry_{load} / (4u * DEPTH) % TAPS;
        let quad_{load} = entry_{load} / (4u * DEPTH * TAPS);
#endif
        // What is surplus loads something that is there and is not used.
        let tap_y_{load} = min(first_loaded + tap_{load} / TAPS_X, params.taps_y - 1u);
        let tap_at_{load} = u32(params.tap_first + i32(tap_y_{load}) * params.tap_step_y + i32(tap_{load} % TAPS_X) * params.tap_step_x);
        let target_{load} = min(first_quad + quad_{load}, params.target_quads - 1u);
        let other_{load} = source_quad + min(depth_{load}, DEPTH - 1u);
#ifdef TRANSPOSED
        let weight_{load} = weight[weight_at + ((other_{load} * params.taps + tap_at_{load}) * params.slots + target_{load}) * 4u + block_row_{load}];
#else
        let weight_{load} = weight[weight_at + ((target_{load} * params.taps + tap_at_{load}) * params.slots + other_{load}) * 4u + block_row_{load}];
#endif
#endfor
#ifdef AHEAD
        if step > 0u {
            let step_used = step - 1u;
#import common/tile_products
        }
#endif
        // All have read what is now replaced. Padding is zero behind the activation.
        workgroupBarrier();
        if first_loaded == 0u {
#for depth in 0..DEPTH
#for load in 0..PATCH_LOADS
            if lane + {load}u * LANES < PATCH {
#ifdef DERIVATIVE
                held[{depth}u * PATCH + lane + {load}u * LANES] = select(vec4<f32>(), patch_{depth}_{load}, found_{load}.inside);
#else
                held[{depth}u * PATCH + lane + {load}u * LANES] = select(vec4<f32>(), activate(scaled(scaling_{depth}, patch_{depth}_{load})), found_{load}.inside);
#endif
            }
#endfor
#endfor
        }
#for load in 0..WEIGHT_LOADS
        if entry_{load} < WEIGHTS {
            held[WEIGHTS_AT + ((tap_{load} * DEPTH + depth_{load}) * 4u + block_row_{load}) * WEIGHT_STRIDE + quad_{load}] = weight_{load};
        }
#endfor
        workgroupBarrier();
#ifndef AHEAD
        let step_used = step;
#import common/tile_products
#endif
    }

    if DEPTH_LANES > 1u {
#for pixel in 0..TILE
        workgroupBarrier();
        if depth_lane > 0u {
#for quad in 0..QUADS
            held[((depth_lane - 1u) * QUADS + {quad}u) * TILE_LANES + tile_lane] = sum_{pixel}_{quad};
#endfor
        }
        workgroupBarrier();
        if depth_lane == 0u {
            for (var other = 0u; other < DEPTH_LANES - 1u; other++) {
#for quad in 0..QUADS
                sum_{pixel}_{quad} += held[(other * QUADS + {quad}u) * TILE_LANES + tile_lane];
#endfor
            }
        }
#endfor
    }

#ifdef MOMENTS
    workgroupBarrier();
    let live = live_pixels(pixel_lane, params.pixels - first_pixel);
#for quad in 0..QUADS
    var stored_{quad}: array<vec4<f32>, TILE>;
#for pixel in 0..TILE
    stored_{quad}[{pixel}] = sum_{pixel}_{quad};
#endfor
    if depth_lane == 0u {
        note_moments(pixel_lane, quad_lane + {quad}u * QUAD_LANES, stored_{quad}, live);
    }
#endfor
    store_moments(lane, pixel_group, params.groups / params.quad_groups, first_quad, params.target_quads, params.pixels - first_pixel);
#endif
#for pixel in 0..TILE
    {
        let pixel = first_pixel + pixel_lane + {pixel}u * PIXEL_LANES;
        if pixel < params.pixels && depth_lane == 0u {
            let place = place_of(pixel, COUNT_Y, COUNT_X);
            let element = target_at + (place.image * params.target_height + place.y * params.scale_y + params.offset_y) * params.target_width
                + place.x * params.scale_x + params.offset_x;
#for quad in 0..QUADS
            store(first_quad + quad_lane + {quad}u * QUAD_LANES, element, sum_{pixel}_{quad});
#endfor
        }
    }
#endfor
}

fn store(quad: u32, pixel: u32, sum: vec4<f32>) {
    if quad < params.target_quads {
        let element = quad * params.target_plane + pixel;
        var result = sum;
#ifdef ACCUMULATE
        result += destination[element];
#endif
#ifdef DERIVATIVE
        result = before_activation(scaling_of(quad), element, result);
#endif
        destination[element] = result;
    }
}
