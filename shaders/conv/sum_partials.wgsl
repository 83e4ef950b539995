// total[i] = sum over splits s:  partial[s, i]    in ascending order; with PARTS, those of every PARTS-th split first
//
// Tile: one vec4 an invocation, or with PARTS by as many. Dispatch: [ceil(count / 64)] workgroups of 64, or [ceil(count * PARTS / 64)], folded.
#import common/grid

struct Params {
    // vec4s of one share.
    count: u32,
    splits: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> partial: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> total: array<vec4<f32>>;

#ifdef PARTS
const COLUMNS: u32 = 64u / PARTS;

var<workgroup> part_sums: array<vec4<f32>, 64>;
#else
const PARTS: u32 = 1u;
const COLUMNS: u32 = 64u;
#endif

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = flat_workgroup(workgroup, workgroups) * COLUMNS + lane % COLUMNS;
    var sum = vec4<f32>();
    if at < params.count {
        for (var split = lane / COLUMNS; split < params.splits; split += PARTS) {
            sum += partial[split * params.count + at];
        }
    }
#ifdef PARTS
    part_sums[lane] = sum;
    workgroupBarrier();
    if lane < COLUMNS {
        sum = vec4<f32>();
#for part in 0..PARTS
        sum += part_sums[{part}u * COLUMNS + lane];
#endfor
    }
#endif
    if lane < COLUMNS && at < params.count {
        total[at] = sum;
    }
}
