// sum[o, i] = sum over taps t:  weight[o, t, i]
//
// Tile: one vec4 of the sum an invocation, see common/tap_sum.wgsl.
// Dispatch: [ceil(count / 64)] workgroups of 64, folded.
#import common/grid
#import common/tap_sum

struct Params {
    count: u32,
    inner: u32,
    taps: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> weight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> tap_sums: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    sum_taps(flat_workgroup(workgroup, workgroups) * 64u + lane);
}
