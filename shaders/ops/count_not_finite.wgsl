// counters[slot] += number of values that are NaN or infinite; the counter must hold a number, such as 0, before.
//
// Tile: 1024 elements a workgroup, four an invocation, 256 apart. Integer addition commutes, so the count is the same in any order.
// Dispatch: [ceil(count / 1024)] workgroups of 256, folded.
#import common/grid
#import common/finite

struct Params {
    count: u32,
    slot: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> values: array<f32>;
@group(0) @binding(2) var<storage, read_write> counters: array<atomic<u32>>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = flat_workgroup(workgroup, workgroups) * 1024u + lane;
    var found = 0u;
#for step in 0..4
    if first + {step}u * 256u < params.count && is_not_finite(values[first + {step}u * 256u]) {
        found += 1u;
    }
#endfor
    if found > 0u {
        atomicAdd(&counters[params.slot], found);
    }
}
