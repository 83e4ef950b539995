// With normal[c] = (x[c] - mean) * scale and g[c] = output_gradient[c] * weight[c], over the C channels of each pixel:
//   input_gradient[c, p] = scale * (g[c] - sum_k g[k] / C - normal[c] * sum_k g[k] * normal[k] / C)
//
// Tile: 16 pixels, 16 invocations each. Dispatch: [ceil(pixels / 16)] workgroups of 256, folded.
#import common/grid
#import common/channel_tile

struct Params {
    pixels: u32,
    channels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> input: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> weight: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> statistics: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> output_gradient: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> input_gradient: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let pixel = flat_workgroup(workgroup, workgroups) * 16u + (lane & 15u);
    let safe_pixel = min(pixel, params.pixels - 1u);
    let quads = (params.channels + 3u) / 4u;
    let mean = statistics[safe_pixel].x;
    let scale = statistics[safe_pixel].y;

    var sum_here = 0.0;
    var product_here = 0.0;
    for (var quad = lane / 16u; quad < quads; quad += 16u) {
        let element = quad * params.pixels + safe_pixel;
        let real = real_channels(quad, params.channels);
        let weighted = select(vec4(0.0), output_gradient[element] * weight[quad], real);
        sum_here += sum_of_four(weighted);
        product_here += sum_of_four(weighted * (input[element] - vec4(mean)) * scale);
    }
    let mean_gradient = tile_sum(lane, sum_here, params.channels) / f32(params.channels);
    let mean_product = tile_sum(lane, product_here, params.channels) / f32(params.channels);

    if pixel < params.pixels {
        for (var quad = lane / 16u; quad < quads; quad += 16u) {
            let element = quad * params.pixels + pixel;
            let normal = (input[element] - vec4(mean)) * scale;
            let weighted = output_gradient[element] * weight[quad];
            let value = scale * (weighted - vec4(mean_gradient) - normal * mean_product);
            input_gradient[element] = select(vec4(0.0), value, real_channels(quad, params.channels));
        }
    }
}
