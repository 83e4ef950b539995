// gradient[o, t, i] = sum over splits s, in ascending order:  partial[s, o, i]     for every tap t
//
// Tile: one vec4 of the sum an invocation; `inner` vec4s of one tap of one output quad stand together.
// Dispatch: [ceil(count / 64)] workgroups of 64, folded.
#import common/grid

struct Params {
    // vec4s of one share.
    count: u32,
    inner: u32,
    taps: u32,
    splits: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> partial: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> gradient: array<vec4<f32>>;

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
    var sum = vec4<f32>();
    for (var split = 0u; split < params.splits; split++) {
        sum += partial[split * params.count + at];
    }
    let first = at / params.inner * (params.taps - 1u) * params.inner + at;
    for (var tap = 0u; tap < params.taps; tap++) {
        gradient[first + tap * params.inner] = sum;
    }
}
