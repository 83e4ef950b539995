// selected[i] = 1 for the `wanted` largest |input[i]|, of equal ones those of lowest index; 0 for the others
//
// The bits of |x| order as |x| does, NaN above all. Tile: one workgroup for all, because it runs once in many steps; an invocation marks one
// run of neighbours, after counting how many equal ones stand before it. Dispatch: [1] workgroup of 256.
#import common/radix_select

struct Params {
    count: u32,
    wanted: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> input: array<f32>;
@group(0) @binding(2) var<storage, read_write> selected: array<u32>;

const LANES: u32 = 256u;

var<workgroup> lane_ties: array<u32, LANES>;

fn key_at(at: u32) -> u32 {
    return bitcast<u32>(input[at]) & 0x7fffffffu;
}

@compute @workgroup_size(LANES)
fn main(@builtin(local_invocation_index) lane: u32) {
    let threshold = threshold_of(lane, params.count, params.wanted);
    let run = (params.count + LANES - 1u) / LANES;
    let begin = min(lane * run, params.count);
    let end = min(begin + run, params.count);
    var ties = 0u;
    for (var at = begin; at < end; at++) {
        ties += u32(key_at(at) == threshold.key);
    }
    lane_ties[lane] = ties;
    workgroupBarrier();
    ties = 0u;
    for (var other = 0u; other < lane; other++) {
        ties += lane_ties[other];
    }
    for (var at = begin; at < end; at++) {
        let key = key_at(at);
        let tie = key == threshold.key;
        selected[at] = u32(key > threshold.key || (tie && ties < threshold.ties));
        ties += u32(tie);
    }
}
