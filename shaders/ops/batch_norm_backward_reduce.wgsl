// First pass of the gradients of a batch norm with activation, for every quad and slice of its pixels:
//   g = output_gradient * activate'(scale * input + shift)
//   workspace[2s] = sum of g, workspace[2s + 1] = sum of g * (input - mean) * inverse_deviation,   s = quad * slices + slice
//
// Tile: one slice of one quad, lanes along neighbouring pixels, then a tree. Dispatch: [slices, quads] workgroups of LANES.
#import common/activation

struct Params {
    pixels: u32,
    slice_pixels: u32,
    slices: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> input: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> normalisation: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> output_gradient: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> workspace: array<vec4<f32>>;

#import common/sum_pairs

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let quad = workgroup.y;
    let scale = normalisation[4u * quad];
    let shift = normalisation[4u * quad + 1u];
    let mean = normalisation[4u * quad + 2u];
    let inverse = normalisation[4u * quad + 3u];
    let begin = workgroup.x * params.slice_pixels;
    let end = min(begin + params.slice_pixels, params.pixels);
    var gradient_sum = vec4<f32>(0.0);
    var product_sum = vec4<f32>(0.0);
    for (var pixel = begin + lane; pixel < end; pixel += LANES) {
        let element = quad * params.pixels + pixel;
        let value = input[element];
        let gradient = output_gradient[element] * activate_derivative(fma(value, scale, shift));
        gradient_sum += gradient;
        product_sum += gradient * (value - mean);
    }
    lane_first[lane] = gradient_sum;
    lane_second[lane] = product_sum * inverse;
    sum_pairs(lane, min(end - begin, LANES));
    if lane == 0u {
        let slice = quad * params.slices + workgroup.x;
        workspace[2u * slice] = lane_first[0];
        workspace[2u * slice + 1u] = lane_second[0];
    }
}
