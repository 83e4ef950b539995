// input_gradient = output_gradient * activate'(scale * source + shift), without scale and shift where nothing is normalised; for ReLU and
// ReLU6 the source may be what they gave.
// IN_PLACE: the input gradient takes the place of the output gradient.
//
// Tile: 1024 neighbouring pixels of one quad. Dispatch: [ceil(pixels / 1024), quads] workgroups of 256.
#import common/source

struct Params {
    pixels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> source: array<vec4<f32>>;
#ifdef NORMALISE
@group(0) @binding(2) var<storage, read_write> normalisation: array<vec4<f32>>;
const AFTER_SOURCE = 3;
#else
const AFTER_SOURCE = 2;
#endif
@group(0) @binding(AFTER_SOURCE) var<storage, read_write> output_gradient: array<vec4<f32>>;
#ifndef IN_PLACE
@group(0) @binding(AFTER_SOURCE + 1) var<storage, read_write> input_gradient: array<vec4<f32>>;
#endif

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let scaling = scaling_of(workgroup.y);
    let begin = workgroup.x * 1024u;
    let end = min(begin + 1024u, params.pixels);
    for (var pixel = begin + lane; pixel < end; pixel += 256u) {
        let element = workgroup.y * params.pixels + pixel;
        let result = output_gradient[element] * source_derivative(scaling, element);
#ifdef IN_PLACE
        output_gradient[element] = result;
#else
        input_gradient[element] = result;
#endif
    }
}
