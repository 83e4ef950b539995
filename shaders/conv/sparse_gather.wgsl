// Forward:     target[o, p] = bias[o] + sum over live blocks (o, t, i):  value[o, t, i] * source[i, p * stride + t * dilation + origin]
// TRANSPOSED:  target[i, p] = sum over live blocks (o, t, i):  transpose(value[o, t, i]) * source[o, p + tap(t) * dilation + origin],
//              which is the input gradient of one residue class of the stride; blocks of other classes are passed over.
//
// A live block is QUADS output quads by one input quad at one tap. Forward, the blocks of a target are the slots of its list; transposed,
// entries[starts[i] .. starts[i + 1]] name them.
//
// Tile: an invocation computes TILE pixels, 64 apart so that neighbours read neighbouring memory, of QUADS target quads (TRANSPOSED: of
// one); its blocks are the same in a whole workgroup.
// Dispatch: [ceil(pixels / (64 * TILE)) * target_groups] workgroups of 64, folded.
// SUBGROUP: the lanes of a subgroup of that size load UNIT blocks together, LOADS = ceil(4 * QUADS * UNIT / SUBGROUP) vectors each, and
// broadcast them; without it every invocation loads all it needs. POINTWISE: one tap, stride 1, no padding.
// The source of the forward pass is read through its normalisation and activation, see common/source.wgsl.
// MOMENTS (forward): the statistics of the output are taken as well, see common/group_moments.wgsl.
// DERIVATIVE (TRANSPOSED): the complete input gradient is multiplied with the derivative of the activation behind which the input stood.
#import common/grid
#import common/column
#import common/source

struct Params {
    // Target pixels of this launch, and those of one image.
    pixels: u32,
    count_y: u32,
    count_x: u32,
    target_groups: u32,
    // Slots of an output group.
    live: u32,
    source_height: u32,
    source_width: u32,
    source_plane: u32,
    stride_y: u32,
    stride_x: u32,
    dilation_y: u32,
    dilation_x: u32,
    origin_y: i32,
    origin_x: i32,
    // Target pixel (y, x) of the launch is (y * scale_y + offset_y, x * scale_x + offset_x) of the map.
    target_height: u32,
    target_width: u32,
    target_plane: u32,
    scale_y: u32,
    scale_x: u32,
    offset_y: u32,
    offset_x: u32,
    // Transposed only: weight tap `last - tap * step` is tap number `tap < taps` of the launch.
    taps_y: u32,
    taps_x: u32,
    last_y: u32,
    last_x: u32,
    step_y: u32,
    step_x: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> source: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> columns: array<u32>;
@group(0) @binding(3) var<storage, read_write> values: array<vec4<f32>>;
#ifdef TRANSPOSED
@group(0) @binding(4) var<storage, read_write> starts: array<u32>;
@group(0) @binding(5) var<storage, read_write> entries: array<u32>;
#ifdef NORMALISE
@group(0) @binding(6) var<storage, read_write> normalisation: array<vec4<f32>>;
const AFTER_NORMALISATION = 7;
#else
const AFTER_NORMALISATION = 6;
#endif
#ifdef DERIVATIVE
@group(0) @binding(AFTER_NORMALISATION) var<storage, read_write> activated: array<vec4<f32>>;
@group(0) @binding(AFTER_NORMALISATION + 1) var<storage, read_write> destination: array<vec4<f32>>;
#else
@group(0) @binding(AFTER_NORMALISATION) var<storage, read_write> destination: array<vec4<f32>>;
#endif
#else
#ifdef BIAS
@group(0) @binding(4) var<storage, read_write> bias: array<vec4<f32>>;
const AFTER_BIAS = 5;
#else
const AFTER_BIAS = 4;
#endif
#ifdef NORMALISE
@group(0) @binding(AFTER_BIAS) var<storage, read_write> normalisation: array<vec4<f32>>;
const AFTER_NORMALISATION = AFTER_BIAS + 1;
#else
const AFTER_NORMALISATION = AFTER_BIAS;
#endif
@group(0) @binding(AFTER_NORMALISATION) var<storage, read_write> destination: array<vec4<f32>>;
#ifdef MOMENTS
@group(0) @binding(AFTER_NORMALISATION + 1) var<storage, read_write> moments: array<vec4<f32>>;
const LANES: u32 = 64u;
#import common/group_moments
#endif
#endif

const VECTORS: u32 = QUADS * 4u;

// What a block reads: the (first) source quad, EMPTY if nothing, and how far from the pixel.
struct Reach {
    source: u32,
    y: i32,
    x: i32,
}

fn reach_of(block: u32, column: u32) -> Reach {
#ifdef TRANSPOSED
    // A tap of another residue class leaves a remainder, or wraps around and is too large.
    let behind_y = params.last_y - column_tap_y(column);
    let behind_x = params.last_x - column_tap_x(column);
    let tap_y = behind_y / params.step_y;
    let tap_x = behind_x / params.step_x;
    let reached = tap_y * params.step_y == behind_y && tap_x * params.step_x == behind_x
        && tap_y < params.taps_y && tap_x < params.taps_x && column != EMPTY;
    let source_quad = select(EMPTY, block / params.live * QUADS, reached);
#else
    let tap_y = column_tap_y(column);
    let tap_x = column_tap_x(column);
    let source_quad = select(column_quad(column), EMPTY, column == EMPTY);
#endif
    return Reach(source_quad, i32(tap_y * params.dilation_y), i32(tap_x * params.dilation_x));
}

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
    let pixel_group = group / params.target_groups;
    let target_group = group - pixel_group * params.target_groups;
    let first_pixel = pixel_group * (64u * TILE) + lane;

#for pixel in 0..TILE
    let pixel_{pixel} = first_pixel + {pixel}u * 64u;
    // Surplus pixels repeat the last one and are not stored.
    let used_{pixel} = min(pixel_{pixel}, params.pixels - 1u);
#ifndef POINTWISE
    let row_{pixel} = used_{pixel} / params.count_x;
    let image_{pixel} = row_{pixel} / params.count_y;
    let count_at_y_{pixel} = row_{pixel} - image_{pixel} * params.count_y;
    let count_at_x_{pixel} = used_{pixel} - row_{pixel} * params.count_x;
    let y_{pixel} = i32(count_at_y_{pixel} * params.stride_y) + params.origin_y;
    let x_{pixel} = i32(count_at_x_{pixel} * params.stride_x) + params.origin_x;
    let base_{pixel} = i32(image_{pixel} * params.source_height * params.source_width) + y_{pixel} * i32(params.source_width) + x_{pixel};
#endif
#ifdef TRANSPOSED
    var sum_{pixel}_0 = vec4<f32>();
#else
#for quad in 0..QUADS
#ifdef BIAS
    var sum_{pixel}_{quad} = bias[target_group * QUADS + {quad}u];
#else
    var sum_{pixel}_{quad} = vec4<f32>();
#endif
#endfor
#endif
#endfor

#ifdef TRANSPOSED
    let begin = starts[target_group];
    let end = starts[target_group + 1u];
#else
    let begin = target_group * params.live;
    let end = begin + params.live;
#endif
    for (var at = begin; at < end; at += UNIT) {
#ifdef SUBGROUP
        // Each lane loads one vector of the blocks, and finds what one of them reaches; the subgroup shares them.
        var loaded: array<vec4<f32>, LOADS>;
#for load in 0..LOADS
        let vector_{load} = min(subgroup_lane + {load}u * SUBGROUP, UNIT * VECTORS - 1u);
        let slot_{load} = min(at + vector_{load} / VECTORS, end - 1u);
#ifdef TRANSPOSED
        loaded[{load}] = values[entries[slot_{load}] * VECTORS + vector_{load} % VECTORS];
#else
        loaded[{load}] = values[slot_{load} * VECTORS + vector_{load} % VECTORS];
#endif
#endfor
        let own_slot = at + min(subgroup_lane, UNIT - 1u);
#ifdef TRANSPOSED
        let own_block = entries[min(own_slot, end - 1u)];
#else
        let own_block = min(own_slot, end - 1u);
#endif
        let own_reach = reach_of(own_block, select(EMPTY, columns[own_block], own_slot < end));
#ifndef TRANSPOSED
        let own_scaling = scaling_of(select(own_reach.source, 0u, own_reach.source == EMPTY));
#endif
#endif
#for block in 0..UNIT
        {
#ifdef SUBGROUP
            let reach = Reach(
                subgroupBroadcast(own_reach.source, {block}u),
                subgroupBroadcast(own_reach.y, {block}u),
                subgroupBroadcast(own_reach.x, {block}u),
            );
#for quad in 0..QUADS
#for row in 0..4
            let weight_{quad}_{row} = subgroupBroadcast(loaded[({block}u * VECTORS + {quad}u * 4u + {row}u) / SUBGROUP], ({block}u * VECTORS + {quad}u * 4u + {row}u) % SUBGROUP);
#endfor
#endfor
#else
#ifdef TRANSPOSED
            let block = entries[at];
#else
            let block = at;
#endif
            let reach = reach_of(block, columns[block]);
#for quad in 0..QUADS
#for row in 0..4
            let weight_{quad}_{row} = values[block * VECTORS + {quad}u * 4u + {row}u];
#endfor
#endfor
#endif
#ifndef TRANSPOSED
#ifdef SUBGROUP
#ifdef NORMALISE
            let scaling = Scaling(subgroupBroadcast(own_scaling.scale, {block}u), subgroupBroadcast(own_scaling.shift, {block}u));
#else
            let scaling = own_scaling;
#endif
#else
            let scaling = scaling_of(select(reach.source, 0u, reach.source == EMPTY));
#endif
#endif
            if reach.source != EMPTY {
                let plane = reach.source * params.source_plane;
#ifndef POINTWISE
                let shift = reach.y * i32(params.source_width) + reach.x;
#endif
#for pixel in 0..TILE
                {
#ifdef POINTWISE
                    let place = plane + used_{pixel};
#else
                    let inside = u32(y_{pixel} + reach.y) < params.source_height && u32(x_{pixel} + reach.x) < params.source_width;
                    let place = plane + u32(select(0, base_{pixel} + shift, inside));
#endif
#ifdef TRANSPOSED
#for quad in 0..QUADS
#ifdef POINTWISE
                    let value_{quad} = source[place + {quad}u * params.source_plane];
#else
                    let value_{quad} = select(vec4<f32>(), source[place + {quad}u * params.source_plane], inside);
#endif
                    sum_{pixel}_0 = fma(vec4<f32>(weight_{quad}_0.x, weight_{quad}_1.x, weight_{quad}_2.x, weight_{quad}_3.x), vec4<f32>(value_{quad}.x), sum_{pixel}_0);
                    sum_{pixel}_0 = fma(vec4<f32>(weight_{quad}_0.y, weight_{quad}_1.y, weight_{quad}_2.y, weight_{quad}_3.y), vec4<f32>(value_{quad}.y), sum_{pixel}_0);
                    sum_{pixel}_0 = fma(vec4<f32>(weight_{quad}_0.z, weight_{quad}_1.z, weight_{quad}_2.z, weight_{quad}_3.z), vec4<f32>(value_{quad}.z), sum_{pixel}_0);
                    sum_{pixel}_0 = fma(vec4<f32>(weight_{quad}_0.w, weight_{quad}_1.w, weight_{quad}_2.w, weight_{quad}_3.w), vec4<f32>(value_{quad}.w), sum_{pixel}_0);
#endfor
#else
#ifdef POINTWISE
                    let value = load_source(scaling, place);
#else
                    let value = select(vec4<f32>(), load_source(scaling, place), inside);
#endif
#for quad in 0..QUADS
                    sum_{pixel}_{quad} = fma(weight_{quad}_0, vec4<f32>(value.x), sum_{pixel}_{quad});
                    sum_{pixel}_{quad} = fma(weight_{quad}_1, vec4<f32>(value.y), sum_{pixel}_{quad});
                    sum_{pixel}_{quad} = fma(weight_{quad}_2, vec4<f32>(value.z), sum_{pixel}_{quad});
                    sum_{pixel}_{quad} = fma(weight_{quad}_3, vec4<f32>(value.w), sum_{pixel}_{quad});
#endfor
#endif
                }
#endfor
            }
        }
#endfor
    }

#ifdef MOMENTS
    // How many of its pixels this lane stores.
    let live = min((max(params.pixels, first_pixel) - first_pixel + 63u) / 64u, TILE);
#for quad in 0..QUADS
    var stored_{quad}: array<vec4<f32>, TILE>;
#for pixel in 0..TILE
    stored_{quad}[{pixel}] = sum_{pixel}_{quad};
#endfor
    note_moments(lane, {quad}u, moments_of(stored_{quad}, live));
#endfor
    store_moments(lane, pixel_group, (params.pixels + 64u * TILE - 1u) / (64u * TILE), target_group * QUADS, params.target_groups * QUADS);
#endif
#ifdef DERIVATIVE
    let target_scaling = scaling_of(target_group);
#endif
#for pixel in 0..TILE
    if pixel_{pixel} < params.pixels {
#ifdef POINTWISE
        let pixel = pixel_{pixel};
#else
        let pixel = (image_{pixel} * params.target_height + count_at_y_{pixel} * params.scale_y + params.offset_y) * params.target_width
            + count_at_x_{pixel} * params.scale_x + params.offset_x;
#endif
#ifdef TRANSPOSED
        let element = target_group * params.target_plane + pixel;
        var result = sum_{pixel}_0;
#ifdef ACCUMULATE
        result += destination[element];
#endif
#ifdef DERIVATIVE
        result = before_activation(target_scaling, element, result);
#endif
        destination[element] = result;
#else
#for quad in 0..QUADS
        destination[(target_group * QUADS + {quad}u) * params.target_plane + pixel] = sum_{pixel}_{quad};
#endfor
#endif
    }
#endfor
}
