// input_gradient[quad, image, pixel] = output_gradient[quad, image] / image_pixels
// DERIVATIVE: multiplied with the derivative of the activation behind which the input stood, see common/scaling.wgsl.
//
// Tile: 1024 neighbouring pixels of one quad. Dispatch: [ceil(pixels / 1024), quads] workgroups of 256.
#import common/scaling

struct Params {
    image_pixels: u32,
    images: u32,
    pixels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> output_gradient: array<vec4<f32>>;
#ifdef NORMALISE
@group(0) @binding(2) var<storage, read_write> normalisation: array<vec4<f32>>;
const AFTER_NORMALISATION = 3;
#else
const AFTER_NORMALISATION = 2;
#endif
#ifdef DERIVATIVE
@group(0) @binding(AFTER_NORMALISATION) var<storage, read_write> activated: array<vec4<f32>>;
@group(0) @binding(AFTER_NORMALISATION + 1) var<storage, read_write> input_gradient: array<vec4<f32>>;
#else
@group(0) @binding(AFTER_NORMALISATION) var<storage, read_write> input_gradient: array<vec4<f32>>;
#endif

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let scaling = scaling_of(workgroup.y);
    let begin = workgroup.x * 1024u;
    let end = min(begin + 1024u, params.pixels);
    for (var pixel = begin + lane; pixel < end; pixel += 256u) {
        let element = workgroup.y * params.pixels + pixel;
        let image = workgroup.y * params.images + pixel / params.image_pixels;
        var result = output_gradient[image] / f32(params.image_pixels);
#ifdef DERIVATIVE
        result = before_activation(scaling, element, result);
#endif
        input_gradient[element] = result;
    }
}
