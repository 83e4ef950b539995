// First pass of the gradients of a batch norm with activation, for every quad and slice of its pixels:
//   g = output_gradient * activate'(scale * input + shift)
//   workspace[2s] = sum of g, workspace[2s + 1] = sum of g * (input - mean) * inverse_deviation,   s = quad * slices + first_slice + slice
// `slices` counts those of all slabs of the map, this launch takes the ones of a slab.
// STASH: the input is decoded as it is loaded, see common/stash.wgsl. SLOPES: the slope of the activation is one that was held apart, see
// common/held_slopes.wgsl.
//
// Tile: one slice of one quad, lanes along neighbouring pixels, then a tree. Dispatch: [slices, quads] workgroups of LANES.
#import common/normalised_gradient

struct Params {
    pixels: u32,
    slice_pixels: u32,
    slices: u32,
    first_slice: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
#ifdef STASH
@group(0) @binding(1) var<storage, read_write> stash: array<vec4<u32>>;
#else
@group(0) @binding(1) var<storage, read_write> input: array<vec4<f32>>;
#endif
@group(0) @binding(2) var<storage, read_write> normalisation: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> output_gradient: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> workspace: array<vec4<f32>>;
#ifdef SLOPES
@group(0) @binding(5) var<storage, read_write> slopes: array<u32>;
#endif

#import common/sum_pairs

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
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
        let value = value_at(quad, pixel, workgroups.y, params.pixels);
        let gradient = output_gradient[element] * slope_at(quad, pixel, params.pixels, fma(value, scale, shift));
        gradient_sum += gradient;
        product_sum += gradient * (value - mean);
    }
    lane_first[lane] = gradient_sum;
    lane_second[lane] = product_sum * inverse;
    sum_pairs(lane, min(end - begin, LANES));
    if lane == 0u {
        let slice = quad * params.slices + params.first_slice + workgroup.x;
        workspace[2u * slice] = lane_first[0];
        workspace[2u * slice + 1u] = lane_second[0];
    }
}
