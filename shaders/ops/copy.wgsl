// output[output_first + i] = input[input_first + i],   i < count
//
// Tile: 1024 neighbouring quads. Dispatch: [ceil(count / 1024)] workgroups of 256, folded.
#import common/grid

struct Params {
    count: u32,
    input_first: u32,
    output_first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> input: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> output: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let begin = flat_workgroup(workgroup, workgroups) * 1024u;
    let end = min(begin + 1024u, params.count);
    for (var element = begin + lane; element < end; element += 256u) {
        output[params.output_first + element] = input[params.input_first + element];
    }
}
