// Forward:     target[o, p] = bias[o] + sum over live blocks (o, t, i):  value[o, t, i] * source[i, p + t * dilation + origin]
// TRANSPOSED:  target[i, p] = sum over live blocks (o, t, i):  transpose(value[o, t, i]) * source[o, p + tap(t) * dilation + origin]
//
// The sums of sparse_gather.wgsl, with blocks of BLOCK_QUADS output quads taken as so many pieces of four by four, where source rows are as wide and as many as target rows (of one residue
// class), so that a tap lies a constant distance away in memory.
//
// Tile: a subgroup of SUBGROUP lanes computes a strip of TILE * SUBGROUP neighbouring pixels of SPAN target quads. It walks the pieces
// of these quads, those with one source quad and one row of taps next to each other. Where these change, it loads the strip and SUBGROUP
// pixels more, and a tap is a shift between lanes: what is loaded once serves all pieces of SPAN target quads.
// Dispatch: [ceil(pixels / (LANES * TILE)) * spans] workgroups of LANES, folded: as few subgroups as take 64 pixels, so that the last workgroups
// have little that is surplus. UNIT = SUBGROUP / 4 pieces are loaded together; FOURS = SPAN / 4, PARTS = TILE + 1.
// POINTWISE: one tap, which reads the strip as it is.
// Needs (taps - 1) * dilation <= SUBGROUP, and the lanes of a subgroup side by side.
// The source of the forward pass is read through its normalisation and activation, see common/source.wgsl.
// MOMENTS (forward): the statistics of the output are taken as well, four quads (QUADS) after four, see common/group_moments.wgsl.
// DERIVATIVE (TRANSPOSED): the complete input gradient is multiplied with the derivative of the activation behind which the input stood.
#import common/grid
#import common/column
#import common/source

struct Params {
    // Target pixels of this launch, which are source pixels too, and those of one image.
    pixels: u32,
    count_y: u32,
    count_x: u32,
    // Target quads, and spans of them.
    target_quads: u32,
    spans: u32,
    // Slots of a block row, and pieces of all.
    live: u32,
    pieces: u32,
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
@group(0) @binding(4) var<storage, read_write> walk: array<u32>;
#ifdef TRANSPOSED
@group(0) @binding(5) var<storage, read_write> starts: array<u32>;
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
@group(0) @binding(5) var<storage, read_write> bias: array<vec4<f32>>;
const AFTER_BIAS = 6;
#else
const AFTER_BIAS = 5;
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
#import common/group_moments
#endif
#endif

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_invocation_id) subgroup_lane: u32,
) {
    let group = flat_workgroup(workgroup, workgroups);
    let pixel_group = group / params.spans;
    let span = group - pixel_group * params.spans;
    let first_target = span * SPAN;
    let first_pixel = (pixel_group * LANES + lane - subgroup_lane) * TILE + subgroup_lane;
    let last_pixel = params.pixels - 1u;

#for pixel in 0..TILE
    let pixel_{pixel} = first_pixel + {pixel}u * SUBGROUP;
    // Surplus pixels repeat the last one and are not stored.
    let row_{pixel} = min(pixel_{pixel}, last_pixel) / params.count_x;
    let x_{pixel} = min(pixel_{pixel}, last_pixel) - row_{pixel} * params.count_x;
    var sum_{pixel}: array<vec4<f32>, SPAN>;
#for quad in 0..SPAN
#ifdef BIAS
    sum_{pixel}[{quad}] = bias[min(first_target + {quad}u, params.target_quads - 1u)];
#else
    sum_{pixel}[{quad}] = vec4<f32>();
#endif
#endfor
#endfor

#ifndef POINTWISE
    // What the first tap of a row reads; one outside of the rows is read by no pixel whose tap is inside.
#for part in 0..PARTS
    let from_{part} = i32(first_pixel + {part}u * SUBGROUP) + params.origin_x;
    let from_row_{part} = u32(clamp(from_{part}, 0, i32(last_pixel))) / params.count_x;
    let from_y_{part} = i32(from_row_{part} % params.count_y);
#endfor
#endif
    var window: array<vec4<f32>, PARTS>;

#ifdef TRANSPOSED
    let begin = starts[first_target] * BLOCK_QUADS;
    let end = starts[min(first_target + SPAN, params.target_quads)] * BLOCK_QUADS;
    let walk_begin = params.pieces;
#else
    let walk_begin = 0u;
    let begin = first_target * params.live;
    let end = min(first_target + SPAN, params.target_quads) * params.live;
#endif
    var window_source = EMPTY;
#ifndef POINTWISE
    var window_y = 0;
#endif
    for (var at = begin; at < end; at += SUBGROUP) {
        // Each lane finds what one piece reaches, and loads one vector of UNIT pieces; the subgroup shares them.
        let own_piece = select(EMPTY, walk[walk_begin + min(at + subgroup_lane, end - 1u)], at + subgroup_lane < end);
        let own_used = select(own_piece, 0u, own_piece == EMPTY);
        let own_column = columns[own_used / BLOCK_QUADS];
        let own_output = piece_output(own_used, params.live);
#ifdef TRANSPOSED
#ifdef POINTWISE
        let reached = own_piece != EMPTY;
#else
        // A tap of another residue class leaves a remainder, or wraps around and is too large.
        let behind_y = params.last_y - column_tap_y(own_column);
        let behind_x = params.last_x - column_tap_x(own_column);
        let tap_y = behind_y / params.step_y;
        let tap_x = behind_x / params.step_x;
        let reached = own_piece != EMPTY && tap_y * params.step_y == behind_y && tap_x * params.step_x == behind_x
            && tap_y < params.taps_y && tap_x < params.taps_x;
#endif
        let own_source = own_output;
        let own_target = select(EMPTY, column_quad(own_column) - first_target, reached);
#else
#ifndef POINTWISE
        let tap_y = column_tap_y(own_column);
        let tap_x = column_tap_x(own_column);
#endif
        let own_source = column_quad(own_column);
        let own_target = select(own_output - first_target, EMPTY, own_piece == EMPTY || own_column == EMPTY);
#endif
#ifndef POINTWISE
        let own_y = i32(tap_y * params.dilation_y) + params.origin_y;
        let own_shift = tap_x * params.dilation_x;
#endif
        var loaded = vec4<f32>();
        for (var turn = 0u; turn < min(SUBGROUP, end - at); turn++) {
            if turn % UNIT == 0u {
                loaded = values[subgroupShuffle(own_used, turn + subgroup_lane / 4u) * 4u + subgroup_lane % 4u];
            }
            let target_at = subgroupShuffle(own_target, turn);
            if target_at != EMPTY {
                let source_quad = subgroupShuffle(own_source, turn);
#ifdef POINTWISE
                if source_quad != window_source {
#else
                let y = subgroupShuffle(own_y, turn);
                let shift = subgroupShuffle(own_shift, turn);
                if source_quad != window_source || y != window_y {
                    window_y = y;
#endif
                    window_source = source_quad;
#ifdef TRANSPOSED
                    let scaling = Scaling();
#else
                    let scaling = scaling_of(source_quad);
#endif
                    let plane = source_quad * params.pixels;
#ifdef POINTWISE
#for pixel in 0..TILE
                    window[{pixel}] = load_source(scaling, plane + min(pixel_{pixel}, last_pixel));
#endfor
#else
                    let distance = y * i32(params.count_x);
#for part in 0..PARTS
                    let place_{part} = plane + u32(clamp(from_{part} + distance, 0, i32(last_pixel)));
                    window[{part}] = select(vec4<f32>(), load_source(scaling, place_{part}), u32(from_y_{part} + y) < params.count_y);
#endfor
#endif
                }
#for row in 0..4
                let weight_{row} = subgroupShuffle(loaded, turn % UNIT * 4u + {row}u);
#endfor
#ifdef POINTWISE
#for pixel in 0..TILE
                let value_{pixel} = window[{pixel}];
#endfor
#else
                let from_lane = (subgroup_lane + shift) % SUBGROUP;
                let further = subgroup_lane < shift;
#for pixel in 0..TILE
                let shifted_{pixel} = subgroupShuffle(select(window[{pixel}], window[{pixel} + 1], further), from_lane);
                let inside_{pixel} = u32(i32(x_{pixel} + shift) + params.origin_x) < params.count_x;
                let value_{pixel} = select(vec4<f32>(), shifted_{pixel}, inside_{pixel});
#endfor
#endif
#for four in 0..FOURS
                if target_at / 4u == {four}u {
#for low in 0..4
                if target_at % 4u == {low}u {
#for pixel in 0..TILE
#ifdef TRANSPOSED
                    sum_{pixel}[{four} * 4 + {low}] = fma(vec4<f32>(weight_0.x, weight_1.x, weight_2.x, weight_3.x), vec4<f32>(value_{pixel}.x), sum_{pixel}[{four} * 4 + {low}]);
                    sum_{pixel}[{four} * 4 + {low}] = fma(vec4<f32>(weight_0.y, weight_1.y, weight_2.y, weight_3.y), vec4<f32>(value_{pixel}.y), sum_{pixel}[{four} * 4 + {low}]);
                    sum_{pixel}[{four} * 4 + {low}] = fma(vec4<f32>(weight_0.z, weight_1.z, weight_2.z, weight_3.z), vec4<f32>(value_{pixel}.z), sum_{pixel}[{four} * 4 + {low}]);
                    sum_{pixel}[{four} * 4 + {low}] = fma(vec4<f32>(weight_0.w, weight_1.w, weight_2.w, weight_3.w), vec4<f32>(value_{pixel}.w), sum_{pixel}[{four} * 4 + {low}]);
#else
                    sum_{pixel}[{four} * 4 + {low}] = fma(weight_0, vec4<f32>(value_{pixel}.x), sum_{pixel}[{four} * 4 + {low}]);
                    sum_{pixel}[{four} * 4 + {low}] = fma(weight_1, vec4<f32>(value_{pixel}.y), sum_{pixel}[{four} * 4 + {low}]);
                    sum_{pixel}[{four} * 4 + {low}] = fma(weight_2, vec4<f32>(value_{pixel}.z), sum_{pixel}[{four} * 4 + {low}]);
                    sum_{pixel}[{four} * 4 + {low}] = fma(weight_3, vec4<f32>(value_{pixel}.w), sum_{pixel}[{four} * 4 + {low}]);
#endif
#endfor
                }
#endfor
                }
#endfor
            }
        }
    }

#ifdef MOMENTS
    // How many of its pixels this lane stores.
    let live = min((max(params.pixels, first_pixel) - first_pixel + SUBGROUP - 1u) / SUBGROUP, TILE);
#for four in 0..FOURS
#for low in 0..4
    var stored_{four}_{low}: array<vec4<f32>, TILE>;
#for pixel in 0..TILE
    stored_{four}_{low}[{pixel}] = sum_{pixel}[{four} * 4 + {low}];
#endfor
    note_moments(lane, {low}u, moments_of(stored_{four}_{low}, live));
#endfor
    store_moments(lane, pixel_group, (params.pixels + LANES * TILE - 1u) / (LANES * TILE), first_target + {four}u * 4u, params.target_quads);
    workgroupBarrier();
#endfor
#endif
#for pixel in 0..TILE
    if pixel_{pixel} < params.pixels {
        let image = row_{pixel} / params.count_y;
        let y = row_{pixel} - image * params.count_y;
        let pixel = (image * params.target_height + y * params.scale_y + params.offset_y) * params.target_width
            + x_{pixel} * params.scale_x + params.offset_x;
#for quad in 0..SPAN
        if first_target + {quad}u < params.target_quads {
            let element = (first_target + {quad}u) * params.target_plane + pixel;
            var result = sum_{pixel}[{quad}];
#ifdef ACCUMULATE
            result += destination[element];
#endif
#ifdef DERIVATIVE
            result = before_activation(scaling_of(first_target + {quad}u), element, result);
#endif
            destination[element] = result;
        }
#endfor
    }
#endfor
}
