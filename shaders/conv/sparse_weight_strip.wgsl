// gradient[o, t, i] = sum over output pixels p:  output_gradient[o, p] * input[i, p + t * dilation + origin]   (live blocks only)
//
// The sums of sparse_weight_gradient.wgsl, with blocks of BLOCK_QUADS output quads taken as so many pieces of four by four, where input rows are as wide and as many as output rows, so that a tap
// lies a constant distance away in memory.
//
// Tile: a workgroup is a subgroup of SUBGROUP lanes. It goes over strips of TILE * SUBGROUP neighbouring pixels, and holds the strip of the
// output gradient of SPAN output quads. It walks the pieces of these quads, those with one input quad and one row of taps next to each
// other. Where these change, it loads the strip of the input and SUBGROUP pixels more, and a tap is a shift between lanes: what is loaded once
// serves all pieces of the span. The lanes' sums of two pieces are added up by exchanging halves, and added to what other strips gave.
// Share `split` of `splits` writes to partial[split]; sum_partials.wgsl adds the shares. An empty slot gets zeros.
// Dispatch: [spans * splits] workgroups of SUBGROUP, folded. PARTS = TILE + 1, FOURS = SPAN / 4.
// POINTWISE: one tap, which reads the strip as it is.
// Needs (taps - 1) * dilation <= SUBGROUP, and SUBGROUP >= 8.
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
    // Slots of a block row, and pieces of all.
    live: u32,
    pieces: u32,
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

fn load_input(scaling: Scaling, quad: u32, pixel: u32) -> vec4<f32> {
#ifdef STASH
    return load_stashed(scaling, quad, pixel, (params.input_channels + 3u) / 4u, params.pixels);
#else
    return load_source(scaling, quad * params.pixels + pixel);
#endif
}

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
    let base = split * params.pieces;
    let last_pixel = params.pixels - 1u;
    // What is walked is written by the first strip; every live piece is.
    for (var piece = begin + lane; piece < end; piece += SUBGROUP) {
        if columns[piece / BLOCK_QUADS] == EMPTY {
#for row in 0..4
            partial[(base + piece) * 4u + {row}u] = vec4<f32>();
#endfor
        }
    }

    let first_strip = split * params.strips_per_split;
    let last_strip = min(first_strip + params.strips_per_split, params.strips);
    for (var strip = first_strip; strip < last_strip; strip++) {
        let first_pixel = strip * (TILE * SUBGROUP) + lane;
#for pixel in 0..TILE
        let pixel_{pixel} = first_pixel + {pixel}u * SUBGROUP;
#ifndef POINTWISE
        let x_{pixel} = min(pixel_{pixel}, last_pixel) % params.count_x;
#endif
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
#ifndef POINTWISE
        // What the first tap of a row reads; one outside of the rows is read by no pixel whose tap is inside.
#for part in 0..PARTS
        let from_{part} = i32(first_pixel + {part}u * SUBGROUP) + params.origin_x;
        let from_y_{part} = i32(u32(clamp(from_{part}, 0, i32(last_pixel))) / params.count_x % params.count_y);
#endfor
#endif
        var window: array<vec4<f32>, PARTS>;
        var window_quad = EMPTY;
#ifndef POINTWISE
        var window_y = 0;
#endif
        // Of the piece before: a channel's sum over every fourth lane.
        var earlier = vec4<f32>();
        for (var at = begin; at < end; at += SUBGROUP) {
            // Each lane finds what one piece reaches; the subgroup shares it.
            let own_piece = select(EMPTY, walk[min(at + lane, end - 1u)], at + lane < end);
            let own_used = select(own_piece, 0u, own_piece == EMPTY);
            let own_column = columns[own_used / BLOCK_QUADS];
            let own_output = select(piece_output(own_used, params.live) - first_output, EMPTY, own_piece == EMPTY || own_column == EMPTY);
#ifndef POINTWISE
            let own_y = i32(column_tap_y(own_column) * params.dilation_y) + params.origin_y;
            let own_shift = column_tap_x(own_column) * params.dilation_x;
#endif
            // Two pieces after each other; behind the last one stands an empty one.
            for (var turn = 0u; turn < min(SUBGROUP, (end - at + 1u) / 2u * 2u); turn++) {
                let output_at = subgroupShuffle(own_output, turn);
                var own = vec4<f32>();
                if output_at != EMPTY {
                    let input_quad = column_quad(subgroupShuffle(own_column, turn));
#ifdef POINTWISE
                    if input_quad != window_quad {
#else
                    let y = subgroupShuffle(own_y, turn);
                    let shift = subgroupShuffle(own_shift, turn);
                    if input_quad != window_quad || y != window_y {
                        window_y = y;
#endif
                        window_quad = input_quad;
                        let scaling = scaling_of(input_quad);
#ifdef POINTWISE
#for pixel in 0..TILE
                        window[{pixel}] = load_input(scaling, input_quad, min(pixel_{pixel}, last_pixel));
#endfor
#else
                        let distance = y * i32(params.count_x);
#for part in 0..PARTS
                        let place_{part} = u32(clamp(from_{part} + distance, 0, i32(last_pixel)));
                        window[{part}] = select(vec4<f32>(), load_input(scaling, input_quad, place_{part}), u32(from_y_{part} + y) < params.count_y);
#endfor
#endif
                    }
#ifdef POINTWISE
#for pixel in 0..TILE
                    let value_{pixel} = window[{pixel}];
#endfor
#else
                    let from_lane = (lane + shift) % SUBGROUP;
                    let further = lane < shift;
#for pixel in 0..TILE
                    let shifted_{pixel} = subgroupShuffle(select(window[{pixel}], window[{pixel} + 1], further), from_lane);
                    let inside_{pixel} = u32(i32(x_{pixel} + shift) + params.origin_x) < params.count_x;
                    let value_{pixel} = select(vec4<f32>(), shifted_{pixel}, inside_{pixel});
#endfor
#endif
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
                    own = select(low, high, upper) + subgroupShuffleXor(select(high, low, upper), 2u);
                }
                if turn % 2u == 1u {
                    // And of two pieces, until four lanes have one and four the other.
                    let second = (lane & 4u) == 4u;
                    var total = select(earlier, own, second) + subgroupShuffleXor(select(own, earlier, second), 4u);
                    for (var apart = 8u; apart < SUBGROUP; apart *= 2u) {
                        total += subgroupShuffleXor(total, apart);
                    }
                    let own_turn = turn - 1u + (lane / 4u) % 2u;
                    let piece = subgroupShuffle(own_used, own_turn);
                    let output = subgroupShuffle(own_output, own_turn);
#ifdef GROUPED
                    // Elements between groups stay exactly zero, so that an optimiser keeps them zero.
                    let input_channel = column_quad(subgroupShuffle(own_column, own_turn)) * 4u + (lane & 3u);
                    let output_channel = vec4<u32>((first_output + output) * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
                    let same_group = output_channel / vec4<u32>(params.group_outputs) == vec4<u32>(input_channel / params.group_inputs);
                    let real = (output_channel < vec4<u32>(params.output_channels)) & vec4<bool>(input_channel < params.input_channels);
                    total = select(vec4<f32>(), total, same_group & real);
#endif
                    if lane < 8u && output != EMPTY {
                        let element = (base + piece) * 4u + (lane & 3u);
                        if strip > first_strip {
                            total += partial[element];
                        }
                        partial[element] = total;
                    }
                }
                earlier = own;
            }
        }
    }
}
