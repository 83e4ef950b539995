// slots[first_slot + g] = sum of values[i]^2 over the 16384 elements from 16384 * g on (those below `count`), of many regions at once, see
// common/table.wgsl
//
// Tile: 4096 quads a workgroup, 16 an invocation, then a tree, so the order is fixed.
// Dispatch: [sum over the regions of ceil(count / 16384)] workgroups of 256, folded.
#import common/grid

struct Params {
    entries: array<vec4<u32>, 128>,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> values: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> slots: array<f32>;

#import common/table

var<workgroup> sums: array<vec4<f32>, 256>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = flat_workgroup(workgroup, workgroups);
    let entry = entry_of(group);
    let share = group - entry.first_group;
    // A grid that is folded may have surplus workgroups.
    if share * 16384u >= entry.count {
        return;
    }
    let end = min((entry.count + 3u) / 4u, (share + 1u) * 4096u);
    var sum = vec4(0.0);
    for (var quad = share * 4096u + lane; quad < end; quad += 256u) {
        let inside = vec4(quad * 4u) + vec4(0u, 1u, 2u, 3u) < vec4(entry.count);
        let value = select(vec4(0.0), values[entry.gradient + quad], inside);
        sum += value * value;
    }
    sums[lane] = sum;
    workgroupBarrier();
    for (var stride = 128u; stride > 0u; stride >>= 1u) {
        if lane < stride {
            sums[lane] += sums[lane + stride];
        }
        workgroupBarrier();
    }
    if lane == 0u {
        let total = sums[0];
        slots[entry.first_slot + share] = (total.x + total.y) + (total.z + total.w);
    }
}
