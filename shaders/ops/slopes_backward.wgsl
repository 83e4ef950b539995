// input_gradient = output_gradient * slope * scale: the slopes that keep_slopes.wgsl kept, if SLOPES, and the scale of the normalisation before the
// activation, if NORMALISE.
// IN_PLACE: the input gradient takes the place of the output gradient.
//
// Tile: 1024 neighbouring pixels of one quad. Dispatch: [ceil(pixels / 1024), quads] workgroups of 256.

struct Params {
    pixels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
#ifdef SLOPES
@group(0) @binding(1) var<storage, read_write> slopes: array<u32>;
const AFTER_SLOPES = 2;
#else
const AFTER_SLOPES = 1;
#endif
#ifdef NORMALISE
@group(0) @binding(AFTER_SLOPES) var<storage, read_write> normalisation: array<vec4<f32>>;
const AFTER_NORMALISATION = AFTER_SLOPES + 1;
#else
const AFTER_NORMALISATION = AFTER_SLOPES;
#endif
@group(0) @binding(AFTER_NORMALISATION) var<storage, read_write> output_gradient: array<vec4<f32>>;
#ifndef IN_PLACE
@group(0) @binding(AFTER_NORMALISATION + 1) var<storage, read_write> input_gradient: array<vec4<f32>>;
#endif

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var factor = vec4<f32>(1.0);
#ifdef NORMALISE
    factor = normalisation[4u * workgroup.y];
#endif
    let words = (params.pixels + 7u) / 8u;
    let begin = workgroup.x * 1024u;
    let end = min(begin + 1024u, params.pixels);
    for (var pixel = begin + lane; pixel < end; pixel += 256u) {
        let element = workgroup.y * params.pixels + pixel;
        var result = output_gradient[element] * factor;
#ifdef SLOPES
        let bits = slopes[workgroup.y * words + pixel / 8u] >> (pixel % 8u * 4u);
        result = select(vec4<f32>(), result, (vec4<u32>(bits) & vec4<u32>(1u, 2u, 4u, 8u)) != vec4<u32>());
#endif
#ifdef IN_PLACE
        output_gradient[element] = result;
#else
        input_gradient[element] = result;
#endif
    }
}
