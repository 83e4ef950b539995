// list[0] = min(marked, capacity), list[1] = marked, list[2 ..] = the first `capacity` marked pixels in ascending order, then EMPTY
//
// Pixels that do not fit the list lose their marks. Marks and counts are those of list_mark.wgsl.
// Tile: a workgroup lists one block of 2048 pixels, a word of marks an invocation; it adds up the counts of the blocks before its own.
// Dispatch: [blocks] workgroups of 64, folded.
#import common/grid

struct Params {
    blocks: u32,
    capacity: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> marks: array<u32>;
@group(0) @binding(2) var<storage, read_write> list: array<u32>;

const EMPTY: u32 = 0xffffffffu;

var<workgroup> lane_before: array<u32, 64>;
var<workgroup> lane_marked: array<u32, 64>;
var<workgroup> lane_own: array<u32, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = flat_workgroup(workgroup, workgroups);
    let block = min(group, params.blocks - 1u);
    var before = 0u;
    var marked = 0u;
    for (var other = lane; other < params.blocks; other += 64u) {
        let count = marks[params.blocks * 64u + other];
        marked += count;
        before += select(0u, count, other < block);
    }
    let word = marks[block * 64u + lane];
    lane_before[lane] = before;
    lane_marked[lane] = marked;
    lane_own[lane] = countOneBits(word);
    workgroupBarrier();
    if group >= params.blocks {
        return;
    }
    // 64, as a number no compiler knows, lest it unrolls what runs once.
    let lanes = select(64u, 0u, params.blocks == 0u);
    var at = 0u;
    var total = 0u;
    for (var other = 0u; other < lanes; other++) {
        at += lane_before[other] + select(0u, lane_own[other], other < lane);
        total += lane_marked[other];
    }
    let listed = min(total, params.capacity);
    var rest = word;
    var kept = 0u;
    for (; rest != 0u && at < params.capacity; at++) {
        let bit = firstTrailingBit(rest);
        list[2u + at] = (block * 64u + lane) * 32u + bit;
        kept |= 1u << bit;
        rest &= rest - 1u;
    }
    marks[block * 64u + lane] = kept;
    for (var entry = block * 2048u + lane; entry < min((block + 1u) * 2048u, params.capacity); entry += 64u) {
        if entry >= listed {
            list[2u + entry] = EMPTY;
        }
    }
    if block == 0u && lane == 0u {
        list[0] = listed;
        list[1] = total;
    }
}
