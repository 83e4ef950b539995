// For every output group, in place: of its live blocks keep the `keep` of largest |value|_2 (of equal ones those of lowest slot); then grow
// `grow` blocks in free slots, among the columns that were not live before, so none that was just pruned. Values and state of freed slots
// become zero, so a grown block starts from zero.
//
// Which columns grow: those of the largest score. RANDOM: a hash of seed, group and column, which is a draw without replacement;
// else growth[group * candidates + candidate], such as the norm of the gradient that the block would have.
// Tile: one workgroup an output group. Dispatch: [output_groups] workgroups of 64, folded. STATES: 0 to 2 arrays of optimiser state (with
// ONE_STATE or TWO_STATES, lest the table of variants takes one for another).
// Candidate c of a group is tap c % taps of its input quad c / taps. BITS words hold a bit each for all candidates, and for all slots.
#import common/grid
#import common/column
#import common/random
#import common/radix_select

struct Params {
    output_groups: u32,
    // Slots of an output group.
    live: u32,
    candidates: u32,
    taps: u32,
    taps_x: u32,
    // vec4s of a block.
    vectors: u32,
    // Grouped only: channels of a group, input quads of all and of a span.
    group_inputs: u32,
    group_outputs: u32,
    input_quads: u32,
    span: u32,
}

// What is to be done: the host may change it between two runs.
struct Order {
    keep: u32,
    grow: u32,
    seed: u32,
    stream: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> order: Order;
@group(0) @binding(2) var<storage, read_write> columns: array<u32>;
@group(0) @binding(3) var<storage, read_write> values: array<vec4<f32>>;
#ifdef RANDOM
#for state in 0..STATES
@group(0) @binding(4 + {state}) var<storage, read_write> state_{state}: array<vec4<f32>>;
#endfor
#else
@group(0) @binding(4) var<storage, read_write> growth: array<f32>;
#for state in 0..STATES
@group(0) @binding(5 + {state}) var<storage, read_write> state_{state}: array<vec4<f32>>;
#endfor
#endif

const LANES: u32 = 64u;

// Candidates that were live before, and slots that stay.
var<workgroup> was_live: array<atomic<u32>, BITS>;
var<workgroup> stays: array<u32, BITS>;

var<private> group: u32;
var<private> pruning: bool;

fn first_input_quad() -> u32 {
    let first_channel = group * 4u / params.group_outputs * params.group_inputs;
    return select(min(first_channel / 4u, params.input_quads - params.span), 0u, params.span == params.input_quads);
}

fn is_live_before(candidate: u32) -> bool {
    return (atomicLoad(&was_live[candidate / 32u]) >> (candidate % 32u) & 1u) != 0u;
}

// Above 0 for what may be chosen.
fn key_at(at: u32) -> u32 {
    if pruning {
        let slot = group * params.live + at;
        if columns[slot] == EMPTY {
            return 0u;
        }
        var squares = vec4<f32>();
        for (var vector = 0u; vector < params.vectors; vector++) {
            let value = values[slot * params.vectors + vector];
            squares = fma(value, value, squares);
        }
        return bitcast<u32>((squares.x + squares.y) + (squares.z + squares.w)) + 1u;
    }
    if is_live_before(at) {
        return 0u;
    }
#ifdef RANDOM
    return max(random_words(vec4<u32>(order.seed, order.stream, group, at)).x, 1u);
#else
    return (bitcast<u32>(growth[group * params.candidates + at]) & 0x7fffffffu) + 1u;
#endif
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // Surplus workgroups read what the last one reads, and write nothing.
    let flat = flat_workgroup(workgroup, workgroups);
    let real = flat < params.output_groups;
    group = min(flat, params.output_groups - 1u);
    let first_slot = group * params.live;
    let first_quad = first_input_quad();

    for (var word = lane; word < BITS; word += LANES) {
        atomicStore(&was_live[word], 0u);
        stays[word] = 0u;
    }
    workgroupBarrier();
    for (var slot = lane; slot < params.live; slot += LANES) {
        let column = columns[first_slot + slot];
        if column != EMPTY {
            let candidate = (column_quad(column) - first_quad) * params.taps + column_tap_y(column) * params.taps_x + column_tap_x(column);
            atomicOr(&was_live[candidate / 32u], 1u << (candidate % 32u));
        }
    }
    workgroupBarrier();

    pruning = true;
    let kept = threshold_of(lane, params.live, order.keep);
    if lane == 0u {
        var ties = kept.ties;
        for (var slot = 0u; slot < params.live; slot++) {
            let key = key_at(slot);
            let tie = key == kept.key && ties > 0u;
            ties -= u32(tie);
            stays[slot / 32u] |= u32(key > 0u && (key > kept.key || tie)) << (slot % 32u);
        }
    }
    workgroupBarrier();
    for (var slot = lane; slot < params.live; slot += LANES) {
        if real && (stays[slot / 32u] >> (slot % 32u) & 1u) == 0u {
            let at = first_slot + slot;
            columns[at] = EMPTY;
            for (var vector = at * params.vectors; vector < (at + 1u) * params.vectors; vector++) {
                values[vector] = vec4<f32>();
#for state in 0..STATES
                state_{state}[vector] = vec4<f32>();
#endfor
            }
        }
    }
    storageBarrier();
    workgroupBarrier();

    pruning = false;
    let grown = threshold_of(lane, params.candidates, order.grow);
    if lane == 0u && real {
        var ties = grown.ties;
        var slot = 0u;
        for (var candidate = 0u; candidate < params.candidates; candidate++) {
            let key = key_at(candidate);
            let tie = key == grown.key && ties > 0u;
            ties -= u32(tie);
            if key > 0u && (key > grown.key || tie) {
                while slot < params.live && (stays[slot / 32u] >> (slot % 32u) & 1u) != 0u {
                    slot++;
                }
                if slot < params.live {
                    let tap = candidate % params.taps;
                    columns[first_slot + slot] = ((first_quad + candidate / params.taps) << 16u)
                        | (tap / params.taps_x << 8u) | (tap % params.taps_x);
                    slot++;
                }
            }
        }
    }
}
