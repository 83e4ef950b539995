// input_gradient = output_gradient * activate'(value), `value` being the forward's input or, for ReLU and ReLU6, its output.
// IN_PLACE: the input gradient takes the place of the output gradient.
//
// Tile: 1024 neighbouring quads. Dispatch: [ceil(count / 1024)] workgroups of 256, folded.
#import common/grid
#import common/activation

struct Params {
    count: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> value: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> output_gradient: array<vec4<f32>>;
#ifndef IN_PLACE
@group(0) @binding(3) var<storage, read_write> input_gradient: array<vec4<f32>>;
#endif

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let begin = flat_workgroup(workgroup, workgroups) * 1024u;
    let end = min(begin + 1024u, params.count);
    for (var element = begin + lane; element < end; element += 256u) {
        let result = output_gradient[element] * activate_derivative(value[element]);
#ifdef IN_PLACE
        output_gradient[element] = result;
#else
        input_gradient[element] = result;
#endif
    }
}
