// target[q, p] = 0 for pixels p that are not marked
//
// Tile: one vec4 an invocation. Dispatch: [ceil(quads * pixels / 64)] workgroups of 64, folded.
#import common/grid
#import common/mark

struct Params {
    pixels: u32,
    quads: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> marks: array<u32>;
@group(0) @binding(2) var<storage, read_write> destination: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = flat_workgroup(workgroup, workgroups) * 64u + lane;
    if at < params.pixels * params.quads && !is_marked(at % params.pixels) {
        destination[at] = vec4<f32>();
    }
}
