// Third pass of the gradients of a batch norm with activation, with the coefficients of the second pass:
//   g = output_gradient * activate'(scale * input + shift)
//   input_gradient = scale * (g - gradient_share - (input - mean) * product_share)
// IN_PLACE: the input gradient takes the place of the output gradient.
// STASH: the input is decoded as it is loaded, see common/stash.wgsl. SLOPES: the slope of the activation is one that was held apart, see
// common/held_slopes.wgsl.
//
// Tile: 1024 neighbouring pixels of one quad. Dispatch: [ceil(pixels / 1024), quads] workgroups of 256.
#import common/normalised_gradient

struct Params {
    pixels: u32,
    first_coefficient: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
#ifdef STASH
@group(0) @binding(1) var<storage, read_write> stash: array<vec4<u32>>;
#else
@group(0) @binding(1) var<storage, read_write> input: array<vec4<f32>>;
#endif
@group(0) @binding(2) var<storage, read_write> normalisation: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> workspace: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> output_gradient: array<vec4<f32>>;
#ifdef IN_PLACE
const SLOPES_AT = 5;
#else
@group(0) @binding(5) var<storage, read_write> input_gradient: array<vec4<f32>>;
const SLOPES_AT = 6;
#endif
#ifdef SLOPES
@group(0) @binding(SLOPES_AT) var<storage, read_write> slopes: array<u32>;
#endif

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let quad = workgroup.y;
    let scale = normalisation[4u * quad];
    let shift = normalisation[4u * quad + 1u];
    let mean = normalisation[4u * quad + 2u];
    let coefficient = params.first_coefficient + 2u * quad;
    let gradient_share = workspace[coefficient];
    let product_share = workspace[coefficient + 1u];
    let begin = workgroup.x * 1024u;
    let end = min(begin + 1024u, params.pixels);
    for (var pixel = begin + lane; pixel < end; pixel += 256u) {
        let element = quad * params.pixels + pixel;
        let value = value_at(quad, pixel, workgroups.y, params.pixels);
        let gradient = output_gradient[element] * slope_at(quad, pixel, params.pixels, fma(value, scale, shift));
        let result = scale * (gradient - gradient_share - (value - mean) * product_share);
#ifdef IN_PLACE
        output_gradient[element] = result;
#else
        input_gradient[element] = result;
#endif
    }
}
