// gradient[o, t, i] = sum over output pixels p:  output_gradient[o, p] * input[i, p + t * dilation + origin]   (live blocks only)
//
// The sums of sparse_weight_gradient.wgsl for blocks of four by four, where input rows are as wide and as many as output rows, so that a tap
// lies a constant distance away in memory.
//
// Tile: a workgroup is a subgroup of SUBGROUP lanes. It goes over strips of TILE * SUBGROUP neighbouring pixels, and holds the strip of the
// output gradient of SPAN output quads. It walks the live blocks of these quads, those with one input quad and one row of taps next to each
// other. Where these change, it loads the strip of the input and SUBGROUP pixels more, and a tap is a shift between lanes: what is loaded once
// serves all blocks of the span. The lanes' sums of a block are added up by exchanging halves, and added to what other strips gave.
// Share `split` of `splits` writes to partial[split]; sum_partials.wgsl adds the shares. An empty slot gets zeros.
// Dispatch: [spans * splits] workgroups of SUBGROUP, folded. PARTS = TILE + 1, FOURS = SPAN / 4.
// Needs (taps - 1) * dilation <= SUBGROUP.
// The input is read through its normalisation and activation, see common/source.wgsl; with STASH it is decoded as well.
#import common/grid
#import common/column
#import common/source
#import common/turns

struct Params {
    groups: u32,
    spans: u32,
    // Pixels of the output, which are those of the input too, and the size of one image.
    pixels: u32,
    count_y: u32,
    count_x: u32,
    strips: u32,
    strips_per_split: u32,
    output_quads: u32,
    // Slots of an output quad, and of all.
    live: u32,
    blocks: u32,
    dilation_y: u32,
    dilation_x: u32,
    origin_y: i32,
    origin_x: i32,
    // Channels of all, and (grouped only) of a group.
    input_channels: u32,
    output_channels: u32,
    group_inputs: u32,
    group_outputs: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
#ifdef STASH
@group(0) @binding(1) var<storage, read_write> stash: array<vec4<u32>>;
#else
@group(0) @binding(1) var<storage, read_write> source: array<vec4<f32>>;
#endif
@group(0) @binding(2) var<storage, read_write> output_gradient: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> columns: array<u32>;
@group(0) @binding(4) var<storage, read_write> walk: array<u32>;
#ifdef NORMALISE
@group(0) @binding(5) var<storage, read_write> normalisation: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> partial: array<vec4<f32>>;
#else
@group(0) @binding(5) var<storage, read_write> partial: array<vec4<f32>>;
#endif
#ifdef SLOPES
@group(0) @binding(7) var<storage, read_write> slopes: array<u32>;
#endif

@compute @workgroup_size(SUBGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let group = flat_workgroup(workgroup, workgroups);
    if group >= params.groups {
        return;
    }
    let split = group / params.spans;
    let first_output = (group - split * params.spans) * SPAN;
    let begin = first_output * params.live;
    let end = min(first_output + SPAN, params.output_quads) * params.live;
    let base = split * params.blocks;
    let last_pixel = params.pixels - 1u;
    for (var slot = begin; slot < end; slot++) {
        if lane < 4u {
            partial[(base + slot) * 4u + lane] = vec4<f32>();
        }
    }

    let first_strip = split * params.strips_per_split;
    let last_strip = min(first_strip + params.strips_per_split, params.strips);
    for (var strip = first_strip; strip < last_strip; strip++) {
        let first_pixel = strip * (TILE * SUBGROUP) + lane;
#for pixel in 0..TILE
        let pixel_{pixel} = first_pixel + {pixel}u * SUBGROUP;
        let x_{pixel} = min(pixel_{pixel}, last_pixel) % params.count_x;
        var held_{pixel}: array<vec4<f32>, SPAN>;
#endfor
        // Four quads in turn, see common/turns.wgsl.
        let fours = turns(FOURS, params.groups);
        for (var four = 0u; four < fours; four++) {
#for pixel in 0..TILE
#for quad in 4..SPAN
            held_{pixel}[{quad} - 4] = held_{pixel}[{quad}];
#endfor
#for low in 0..4
            held_{pixel}[SPAN - 4 + {low}] = select(vec4<f32>(), output_gradient[min(first_output + four * 4u + {low}u, params.output_quads - 1u) * params.pixels + min(pixel_{pixel}, last_pixel)], pixel_{pixel} <= last_pixel);
#endfor
#endfor
        }
        // What the first tap of a row reads; one outside of the rows is read by no pixel whose tap is inside.
#for part in 0..PARTS
        let from_{part} = i32(first_pixel + {part}u * SUBGROUP) + params.origin_x;
        let from_y_{part} = i32(u32(clamp(from_{part}, 0, i32(last_pixel))) / params.count_x % params.count_y);
#endfor
        var window: array<vec4<f32>, PARTS>;
        var window_quad = EMPTY;
        var window_y = 0;
        for (var at = begin; at < end; at += SUBGROUP) {
            // Each lane finds what one block reaches; the subgroup shares it.
            let own_block = select(EMPTY, walk[min(at + lane, end - 1u)], at + lane < end);
            let own_used = select(own_block, 0u, own_block == EMPTY);
            let own_column = columns[own_used];
            let own_output = select(own_used / params.live - first_output, EMPTY, own_block == EMPTY || own_column == EMPTY);
            let own_y = i32(column_tap_y(own_column) * params.dilation_y) + params.origin_y;
            let own_shift = column_tap_x(own_column) * params.dilation_x;
            for (var turn = 0u; turn < min(SUBGROUP, end - at); turn++) {
                let output_at = subgroupShuffle(own_output, turn);
                if output_at != EMPTY {
                    let block = subgroupShuffle(own_used, turn);
                    let input_quad = column_quad(subgroupShuffle(own_column, turn));
                    let y = subgroupShuffle(own_y, turn);
                    let shift = subgroupShuffle(own_shift, turn);
                    if input_quad != window_quad || y != window_y {
                        window_quad = input_quad;
                        window_y = y;
                        let scaling = scaling_of(input_quad);
                        let distance = y * i32(params.count_x);
#for part in 0..PARTS
                        let place_{part} = u32(clamp(from_{part} + distance, 0, i32(last_pixel)));
#ifdef STASH
                        window[{part}] = select(vec4<f32>(), load_stashed(scaling, input_quad, place_{part}, (params.input_channels + 3u) / 4u, params.pixels), u32(from_y_{part} + y) < params.count_y);
#else
                        window[{part}] = select(vec4<f32>(), load_source(scaling, input_quad * params.pixels + place_{part}), u32(from_y_{part} + y) < params.count_y);
#endif
#endfor
                    }
                    let from_lane = (lane + shift) % SUBGROUP;
                    let further = lane < shift;
#for pixel in 0..TILE
                    let shifted_{pixel} = subgroupShuffle(select(window[{pixel}], window[{pixel} + 1], further), from_lane);
                    let inside_{pixel} = u32(i32(x_{pixel} + shift) + params.origin_x) < params.count_x;
                    let value_{pixel} = select(vec4<f32>(), shifted_{pixel}, inside_{pixel});
#endfor
#for channel in 0..4
                    var sum_{channel} = vec4<f32>();
#endfor
#for four in 0..FOURS
                    if output_at / 4u == {four}u {
#for low in 0..4
                        if output_at % 4u == {low}u {
#for pixel in 0..TILE
#for channel in 0..4
                            sum_{channel} = fma(held_{pixel}[{four} * 4 + {low}], vec4<f32>(value_{pixel}[{channel}]), sum_{channel});
#endfor
#endfor
                        }
#endfor
                    }
#endfor
                    // Lanes exchange halves of what they have until each has one channel's sum.
                    let odd = (lane & 1u) == 1u;
                    let upper = (lane & 2u) == 2u;
                    let low = select(sum_0, sum_1, odd) + subgroupShuffleXor(select(sum_1, sum_0, odd), 1u);
                    let high = select(sum_2, sum_3, odd) + subgroupShuffleXor(select(sum_3, sum_2, odd), 1u);
                    var total = select(low, high, upper) + subgroupShuffleXor(select(high, low, upper), 2u);
                    for (var apart = 4u; apart < SUBGROUP; apart *= 2u) {
                        total += subgroupShuffleXor(total, apart);
                    }
#ifdef GROUPED
                    // Elements between groups stay exactly zero, so that an optimiser keeps them zero.
                    let input_channel = input_quad * 4u + (lane & 3u);
                    let output_channel = vec4<u32>((first_output + output_at) * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
                    let same_group = output_channel / vec4<u32>(params.group_outputs) == vec4<u32>(input_channel / params.group_inputs);
                    let real = (output_channel < vec4<u32>(params.output_channels)) & vec4<bool>(input_channel < params.input_channels);
                    total = select(vec4<f32>(), total, same_group & real);
#endif
                    if lane < 4u {
                        let element = (base + block) * 4u + lane;
                        let before = partial[element];
                        partial[element] = before + total;
                    }
                }
            }
        }
    }
}
