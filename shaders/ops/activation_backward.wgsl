// input_gradient = output_gradient * activate'(scale * activated + shift), without scale and shift where nothing is normalised; for ReLU
// and ReLU6 `activated` may be what they gave (see common/source.wgsl).
// IN_PLACE: the input gradient takes the place of the output gradient.
//
// Tile: 1024 neighbouring pixels of one quad. Dispatch: [ceil(pixels / 1024), quads] workgroups of 256.
#import common/source

struct Params {
    pixels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> activated: array<vec4<f32>>;
#ifdef NORMALISE
@group(0) @binding(2) var<storage, read_write> normalisation: array<vec4<f32>>;
const AFTER_ACTIVATED = 3;
#else
const AFTER_ACTIVATED = 2;
#endif
@group(0) @binding(AFTER_ACTIVATED) var<storage, read_write> source: array<vec4<f32>>;
#ifndef IN_PLACE
@group(0) @binding(AFTER_ACTIVATED + 1) var<storage, read_write> input_gradient: array<vec4<f32>>;
#endif

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let scaling = scaling_of(workgroup.y);
    let begin = workgroup.x * 1024u;
    let end = min(begin + 1024u, params.pixels);
    for (var pixel = begin + lane; pixel < end; pixel += 256u) {
        let element = workgroup.y * params.pixels + pixel;
        let result = before_activation(scaling, element, source[element]);
#ifdef IN_PLACE
        source[element] = result;
#else
        input_gradient[element] = result;
#endif
    }
}
