// gradient[i] *= scale[0],   i < count
//
// Tile: one quad an invocation. Dispatch: [ceil(count / 256)] workgroups of 256, folded.
#import common/grid

struct Params {
    count: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> scale: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> gradient: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let element = flat_workgroup(workgroup, workgroups) * 256u + lane;
    if element < params.count {
        gradient[element] = gradient[element] * scale[0].x;
    }
}
