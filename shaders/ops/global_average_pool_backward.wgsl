// input_gradient[quad, image, pixel] = output_gradient[quad, image] / image_pixels
//
// Tile: 1024 neighbouring quads. Dispatch: [ceil(count / 1024)] workgroups of 256, folded.
#import common/grid

struct Params {
    image_pixels: u32,
    count: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> output_gradient: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> input_gradient: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let begin = flat_workgroup(workgroup, workgroups) * 1024u;
    let end = min(begin + 1024u, params.count);
    for (var element = begin + lane; element < end; element += 256u) {
        input_gradient[element] = output_gradient[element / params.image_pixels] / f32(params.image_pixels);
    }
}
