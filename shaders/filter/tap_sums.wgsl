// sum[o, i] = sum over taps t:  weight[o, t, i]
//
// Tile: one vec4 of the sum an invocation; `inner` vec4s of one tap of one output quad stand together.
// Dispatch: [ceil(count / 64)] workgroups of 64, folded.
#import common/grid

struct Params {
    count: u32,
    inner: u32,
    taps: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> weight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> sum: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = flat_workgroup(workgroup, workgroups) * 64u + lane;
    if at >= params.count {
        return;
    }
    let output_quad = at / params.inner;
    let first = output_quad * (params.taps - 1u) * params.inner + at;
    var total = vec4<f32>();
    for (var tap = 0u; tap < params.taps; tap++) {
        total += weight[first + tap * params.inner];
    }
    sum[at] = total;
}
