// Forward:     target[o, p] = bias[o] + sum over taps t, input channels i:  weight[o, t, i] * source[i, p * STRIDE + t * DILATION + origin]
// TRANSPOSED:  the same sum with the block transposed and the taps in reverse, which is the input gradient (of one residue class of
//              the stride): target[i, p] = sum over taps t, output channels o:  weight[o, t, i] * source[o, p + t * DILATION + origin]
//
// Tile: an invocation computes TILE neighbouring pixels of a row by QUADS target quads; a row of source pixels is loaded once for all
// taps of that row, weights have the same address in a whole workgroup.
// Dispatch: [ceil(images * count_y * ceil(count_x / TILE) / 64) * target_quads / QUADS] workgroups of 64, folded.
// WINDOW = (TILE - 1) * STRIDE_X + (TAPS_X - 1) * DILATION_X + 1 source pixels of a row.
// SUBGROUP: the lanes of a subgroup of that size load a block of weights together, LOADS = ceil(4 * QUADS / SUBGROUP) vectors each, and
// broadcast them; without it every invocation loads all it needs.
// The source is read through its normalisation and activation, see common/source.wgsl.
// MOMENTS (forward): the statistics of the output are taken as well, see common/group_moments.wgsl.
// DERIVATIVE: the complete input gradient is multiplied with the derivative of the activation behind which the input stood.
#import common/grid
#import common/source
#import common/turns

struct Params {
    // Invocations in use, of them side by side in a row, and rows of one image.
    items: u32,
    tiles: u32,
    count_y: u32,
    count_x: u32,
    quad_groups: u32,
    // Source map.
    source_quads: u32,
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
    // Weights: block ((output_quad * taps + tap) * slots + slot), tap = tap_first + tap_y * tap_step_y + tap_x * tap_step_x.
    taps: u32,
    slots: u32,
    taps_y: u32,
    tap_first: i32,
    tap_step_y: i32,
    tap_step_x: i32,
    // Grouped only: channels of a group.
    group_inputs: u32,
    group_outputs: u32,
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
const LANES: u32 = 64u;
#import common/group_moments
#endif

#ifdef GROUPED
fn first_input_quad(output_quad: u32, input_quads: u32) -> u32 {
    let first_channel = output_quad * 4u / params.group_outputs * params.group_inputs;
    return min(first_channel / 4u, input_quads - params.slots);
}
#endif

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
#ifdef SUBGROUP
    @builtin(subgroup_invocation_id) subgroup_lane: u32,
#endif
) {
    let group = flat_workgroup(workgroup, workgroups);
    let pixel_group = group / params.quad_groups;
    let target_quad = (group - pixel_group * params.quad_groups) * QUADS;
    let item = pixel_group * 64u + lane;
    // Surplus invocations repeat the last item and do not store.
    let item_used = min(item, params.items - 1u);
    let row = item_used / params.tiles;
    let x = (item_used - row * params.tiles) * TILE;
    let image = row / params.count_y;
    let y = row - image * params.count_y;
    let image_base = image * params.source_height * params.source_width;
    let first_y = i32(y * params.stride_y) + params.origin_y;
    let first_x = i32(x * STRIDE_X) + params.origin_x;

#for pixel in 0..TILE
#for quad in 0..QUADS
#ifdef BIAS
    var sum_{pixel}_{quad} = bias[target_quad + {quad}u];
#else
    var sum_{pixel}_{quad} = vec4<f32>();
#endif
#endfor
#endfor

#ifdef GROUPED
#ifdef TRANSPOSED
    // The output quads whose span holds this input quad; spans begin in ascending order.
    let input_quads = params.quad_groups;
    var source_begin = 0u;
    var source_end = 0u;
    for (var quad = 0u; quad < params.source_quads; quad++) {
        let first = first_input_quad(quad, input_quads);
        source_begin += u32(first + params.slots <= target_quad);
        source_end += u32(first <= target_quad);
    }
#else
    let source_begin = first_input_quad(target_quad, params.source_quads);
    let source_end = source_begin + params.slots;
#endif
#else
    let source_begin = 0u;
    let source_end = params.source_quads;
#endif

    for (var source_quad = source_begin; source_quad < source_end; source_quad++) {
#ifdef TRANSPOSED
#ifdef GROUPED
        let slot = target_quad - first_input_quad(source_quad, input_quads);
#else
        let slot = target_quad;
#endif
        let block_base = source_quad * params.taps;
#else
        let slot = source_quad - source_begin;
        let block_base = target_quad * params.taps;
#endif
#ifdef DERIVATIVE
        let scaling = Scaling();
#else
        let scaling = scaling_of(source_quad);
#endif
        for (var tap_y = 0u; tap_y < params.taps_y; tap_y++) {
            let source_y = first_y + i32(tap_y * params.dilation_y);
            let row_inside = u32(source_y) < params.source_height;
            let row_base = source_quad * params.source_plane + image_base
                + select(0u, u32(source_y), row_inside) * params.source_width;
            var window: array<vec4<f32>, WINDOW>;
#for at in 0..WINDOW
            let column_{at} = u32(first_x + {at});
            let inside_{at} = row_inside && column_{at} < params.source_width;
            window[{at}] = select(vec4<f32>(), load_source(scaling, row_base + select(0u, column_{at}, inside_{at})), inside_{at});
#endfor
            let tap_row = params.tap_first + i32(tap_y) * params.tap_step_y;
#for tap in 0..TAPS_X
            {
                let tap_at = u32(tap_row + {tap} * params.tap_step_x);
#ifdef SUBGROUP
                // Each lane loads one vector of the blocks; the subgroup shares them.
                var loaded: array<vec4<f32>, LOADS>;
#for load in 0..LOADS
                let entry_{load} = min(subgroup_lane + {load}u * SUBGROUP, QUADS * 4u - 1u);
#ifdef TRANSPOSED
                loaded[{load}] = weight[((block_base + tap_at) * params.slots + slot) * 4u + entry_{load}];
#else
                loaded[{load}] = weight[((block_base + entry_{load} / 4u * params.taps + tap_at) * params.slots + slot) * 4u + entry_{load} % 4u];
#endif
#endfor
#endif
#for quad in 0..QUADS
#ifdef SUBGROUP
#for row in 0..4
                let weight_{quad}_{row} = subgroupBroadcast(loaded[({quad}u * 4u + {row}u) / SUBGROUP], ({quad}u * 4u + {row}u) % SUBGROUP);
#endfor
#else
#ifdef TRANSPOSED
                let block_{quad} = ((block_base + tap_at) * params.slots + slot + {quad}u) * 4u;
#else
                let block_{quad} = ((block_base + {quad}u * params.taps + tap_at) * params.slots + slot) * 4u;
#endif
#for row in 0..4
                let weight_{quad}_{row} = weight[block_{quad} + {row}u];
#endfor
#endif
#for pixel in 0..TILE
                {
                    let value = window[{pixel}u * STRIDE_X + {tap}u * DILATION_X];
#ifdef TRANSPOSED
                    sum_{pixel}_{quad} = fma(vec4<f32>(weight_{quad}_0.x, weight_{quad}_1.x, weight_{quad}_2.x, weight_{quad}_3.x), vec4<f32>(value.x), sum_{pixel}_{quad});
                    sum_{pixel}_{quad} = fma(vec4<f32>(weight_{quad}_0.y, weight_{quad}_1.y, weight_{quad}_2.y, weight_{quad}_3.y), vec4<f32>(value.y), sum_{pixel}_{quad});
                    sum_{pixel}_{quad} = fma(vec4<f32>(weight_{quad}_0.z, weight_{quad}_1.z, weight_{quad}_2.z, weight_{quad}_3.z), vec4<f32>(value.z), sum_{pixel}_{quad});
                    sum_{pixel}_{quad} = fma(vec4<f32>(weight_{quad}_0.w, weight_{quad}_1.w, weight_{quad}_2.w, weight_{quad}_3.w), vec4<f32>(value.w), sum_{pixel}_{quad});
#else
                    sum_{pixel}_{quad} = fma(weight_{quad}_0, vec4<f32>(value.x), sum_{pixel}_{quad});
                    sum_{pixel}_{quad} = fma(weight_{quad}_1, vec4<f32>(value.y), sum_{pixel}_{quad});
                    sum_{pixel}_{quad} = fma(weight_{quad}_2, vec4<f32>(value.z), sum_{pixel}_{quad});
                    sum_{pixel}_{quad} = fma(weight_{quad}_3, vec4<f32>(value.w), sum_{pixel}_{quad});
#endif
                }
#endfor
#endfor
            }
#endfor
        }
    }

    // Quads in turn, see common/turns.wgsl.
    var sums: array<array<vec4<f32>, TILE>, QUADS>;
#for quad in 0..QUADS
#for pixel in 0..TILE
    sums[{quad}][{pixel}] = sum_{pixel}_{quad};
#endfor
#endfor
    let quads = turns(QUADS, params.items);
#ifdef MOMENTS
    let live = select(0u, min(TILE, params.count_x - x), item < params.items);
    for (var quad = 0u; quad < quads; quad++) {
        let stored = sums[0];
        note_moments(lane, quad, moments_of(stored, live));
#for next in 1..QUADS
        sums[{next} - 1] = sums[{next}];
#endfor
        sums[QUADS - 1u] = stored;
    }
    store_moments(lane, pixel_group, (params.items + 63u) / 64u, target_quad, params.quad_groups * QUADS);
#endif
    let target_row = (image * params.target_height + y * params.scale_y + params.offset_y) * params.target_width + params.offset_x;
    for (var quad = 0u; quad < quads; quad++) {
        let target_base = (target_quad + quad) * params.target_plane + target_row;
#ifdef DERIVATIVE
        let target_scaling = scaling_of(target_quad + quad);
#endif
#for pixel in 0..TILE
        if item < params.items && x + {pixel}u < params.count_x {
            let element = target_base + (x + {pixel}u) * params.scale_x;
            var result = sums[0][{pixel}];
#ifdef ACCUMULATE
            result += destination[element];
#endif
#ifdef DERIVATIVE
            result = before_activation(target_scaling, element, result);
#endif
            destination[element] = result;
        }
#endfor
#for next in 1..QUADS
        sums[{next} - 1] = sums[{next}];
#endfor
    }
}
