// input_gradient = output_gradient where a stash says that the gradient of an activation passes, else 0.
// IN_PLACE: the input gradient takes the place of the output gradient.
//
// Tile: 1024 neighbouring pixels of one quad. Dispatch: [ceil(pixels / 1024), quads] workgroups of 256.
#import common/stash

struct Params {
    quads: u32,
    pixels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> stash: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> output_gradient: array<vec4<f32>>;
#ifndef IN_PLACE
@group(0) @binding(3) var<storage, read_write> input_gradient: array<vec4<f32>>;
#endif

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let begin = workgroup.x * 1024u;
    let end = min(begin + 1024u, params.pixels);
    for (var pixel = begin + lane; pixel < end; pixel += 256u) {
        let element = workgroup.y * params.pixels + pixel;
        let gradient = output_gradient[element] * stash_slope(workgroup.y, pixel, params.quads, params.pixels);
#ifdef IN_PLACE
        output_gradient[element] = gradient;
#else
        input_gradient[element] = gradient;
#endif
    }
}
