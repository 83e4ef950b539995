// Forward:     target[o, p] = bias[o] + sum over taps t, input channels i:  weight[o, t, i] * source[i, p * STRIDE + t * DILATION + origin]
// TRANSPOSED:  the same sum with the block transposed and the taps in reverse, which is the input gradient (of one residue class of
//              the stride), as in conv/direct.wgsl.
//
// Tile: a workgroup of PIXEL_LANES by QUAD_LANES invocations computes PIXEL_LANES * TILE pixels that follow each other (row after row, image
// after image) by QUAD_LANES * QUADS target quads, an invocation TILE by QUADS of them. For every DEPTH source quads it holds in workgroup
// memory the patch of source pixels that its pixels see, padding included, and the weights of TAP_ROWS rows of taps; all taps read the one
// patch.
// Dispatch: [pixel_groups * quad_groups] workgroups of LANES = PIXEL_LANES * QUAD_LANES, folded.
//
// The patch is a run of PATCH pixels of the map that common/patch_map.wgsl describes.
// PATCH_LOADS = ceil(PATCH / LANES); WEIGHT_LOADS = ceil(TAP_ROWS * TAPS_X * DEPTH * 4 * QUAD_LANES * QUADS / LANES).
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
    // Target pixels, rows of one image, and pixels of a row.
    pixels: u32,
    count_y: u32,
    count_x: u32,
    // Source map, and an image of the map that patches are cut from.
    images: u32,
    source_quads: u32,
    source_height: u32,
    source_width: u32,
    source_plane: u32,
    rows: u32,
    columns: u32,
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

// The patch, then the weights: entry (tap, depth, row of the block, quad).
var<workgroup> held: array<vec4<f32>, HELD>;

// Where in the map of patches the first tap of a target pixel falls.
fn first_tap(pixel: u32) -> u32 {
    let place = place_of(pixel, params.count_y, params.count_x);
    return (place.image * params.rows + place.y * params.stride_y) * params.columns + place.x * params.stride_x;
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
    // Eight neighbours read eight pixels beside each other, and what reads the same weights reads them at once.
    let pixel_lane = lane % 8u + lane / (8u * QUAD_LANES) * 8u;
    let quad_lane = lane / 8u % QUAD_LANES;

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
    let start_{quad} = bias[min(first_quad + quad_lane + {quad}u * QUAD_LANES, params.target_quads - 1u)];
#else
    let start_{quad} = vec4<f32>();
#endif
#for pixel in 0..TILE
    var sum_{pixel}_{quad} = start_{quad};
#endfor
#endfor

    for (var source_quad = 0u; source_quad < params.source_quads; source_quad += DEPTH) {
#for depth in 0..DEPTH
#ifdef DERIVATIVE
        let scaling_{depth} = Scaling();
#else
        let scaling_{depth} = scaling_of(source_quad + {depth}u);
#endif
#for load in 0..PATCH_LOADS
        let patch_{depth}_{load} = select(vec4<f32>(), load_source(scaling_{depth}, source_at + (source_quad + {depth}u) * params.source_plane + found_{load}.pixel), found_{load}.inside);
#endfor
#endfor
        for (var first_row = 0u; first_row < params.taps_y; first_row += TAP_ROWS) {
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
            let tap_y_{load} = min(first_row + tap_{load} / TAPS_X, params.taps_y - 1u);
            let tap_at_{load} = u32(params.tap_first + i32(tap_y_{load}) * params.tap_step_y + i32(tap_{load} % TAPS_X) * params.tap_step_x);
            let target_{load} = min(first_quad + quad_{load}, params.target_quads - 1u);
            let other_{load} = source_quad + min(depth_{load}, DEPTH - 1u);
#ifdef TRANSPOSED
            let weight_{load} = weight[weight_at + ((other_{load} * params.taps + tap_at_{load}) * params.slots + target_{load}) * 4u + block_row_{load}];
#else
            let weight_{load} = weight[weight_at + ((target_{load} * params.taps + tap_at_{load}) * params.slots + other_{load}) * 4u + block_row_{load}];
#endif
#endfor
            // All have read what is now replaced.
            workgroupBarrier();
            if first_row == 0u {
#for depth in 0..DEPTH
#for load in 0..PATCH_LOADS
                if lane + {load}u * LANES < PATCH {
                    held[{depth}u * PATCH + lane + {load}u * LANES] = patch_{depth}_{load};
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

            let rows = min(TAP_ROWS, params.taps_y - first_row);
            let depths = turns(DEPTH, params.groups);
            for (var row = 0u; row < rows; row++) {
                for (var depth = 0u; depth < depths; depth++) {
                    let row_at = (first_row + row) * params.dilation_y * params.columns + depth * PATCH;
                    let weights_at = WEIGHTS_AT + (row * TAPS_X * DEPTH + depth) * 4u * WEIGHT_STRIDE + quad_lane;
#for tap in 0..TAPS_X
                    {
#for pixel in 0..TILE
                        let value_{pixel} = held[row_at + at_{pixel} + {tap}u * DILATION_X];
#endfor
#for quad in 0..QUADS
#for row in 0..4
                        let weight_{quad}_{row} = held[weights_at + ({tap}u * DEPTH * 4u + {row}u) * WEIGHT_STRIDE + {quad}u * QUAD_LANES];
#endfor
#for pixel in 0..TILE
#ifdef TRANSPOSED
                        sum_{pixel}_{quad} = fma(vec4<f32>(weight_{quad}_0.x, weight_{quad}_1.x, weight_{quad}_2.x, weight_{quad}_3.x), vec4<f32>(value_{pixel}.x), sum_{pixel}_{quad});
                        sum_{pixel}_{quad} = fma(vec4<f32>(weight_{quad}_0.y, weight_{quad}_1.y, weight_{quad}_2.y, weight_{quad}_3.y), vec4<f32>(value_{pixel}.y), sum_{pixel}_{quad});
                        sum_{pixel}_{quad} = fma(vec4<f32>(weight_{quad}_0.z, weight_{quad}_1.z, weight_{quad}_2.z, weight_{quad}_3.z), vec4<f32>(value_{pixel}.z), sum_{pixel}_{quad});
                        sum_{pixel}_{quad} = fma(vec4<f32>(weight_{quad}_0.w, weight_{quad}_1.w, weight_{quad}_2.w, weight_{quad}_3.w), vec4<f32>(value_{pixel}.w), sum_{pixel}_{quad});
#else
#for row in 0..4
                        sum_{pixel}_{quad} = fma(weight_{quad}_{row}, vec4<f32>(value_{pixel}[{row}]), sum_{pixel}_{quad});
#endfor
#endif
#endfor
#endfor
                    }
#endfor
                }
            }
        }
    }

#ifdef MOMENTS
    workgroupBarrier();
    let live = live_pixels(pixel_lane, params.pixels - first_pixel);
#for quad in 0..QUADS
    var stored_{quad}: array<vec4<f32>, TILE>;
#for pixel in 0..TILE
    stored_{quad}[{pixel}] = sum_{pixel}_{quad};
#endfor
    note_moments(pixel_lane, quad_lane + {quad}u * QUAD_LANES, stored_{quad}, live);
#endfor
    store_moments(lane, pixel_group, params.groups / params.quad_groups, first_quad, params.target_quads, params.pixels - first_pixel);
#endif
#for pixel in 0..TILE
    {
        let pixel = first_pixel + pixel_lane + {pixel}u * PIXEL_LANES;
        if pixel < params.pixels {
            let place = place_of(pixel, params.count_y, params.count_x);
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
