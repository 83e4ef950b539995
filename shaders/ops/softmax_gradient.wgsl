// input_gradient[c, p] = output[c, p] * (output_gradient[c, p] - sum_k output[k, p] * output_gradient[k, p])
//
// Tile: 16 pixels, 16 invocations each. Dispatch: [ceil(pixels / 16)] workgroups of 256, folded.
#import common/grid
#import common/channel_tile

struct Params {
    pixels: u32,
    channels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> output: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> output_gradient: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> input_gradient: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let pixel = flat_workgroup(workgroup, workgroups) * 16u + (lane & 15u);
    let safe_pixel = min(pixel, params.pixels - 1u);
    let quads = (params.channels + 3u) / 4u;

    var product_here = 0.0;
    for (var quad = lane / 16u; quad < quads; quad += 16u) {
        let element = quad * params.pixels + safe_pixel;
        let product = output[element] * output_gradient[element];
        product_here += sum_of_four(select(vec4(0.0), product, real_channels(quad, params.channels)));
    }
    let product = tile_sum(lane, product_here, params.channels);

    if pixel < params.pixels {
        for (var quad = lane / 16u; quad < quads; quad += 16u) {
            let element = quad * params.pixels + pixel;
            let value = output[element] * (output_gradient[element] - vec4(product));
            input_gradient[element] = select(vec4(0.0), value, real_channels(quad, params.channels));
        }
    }
}
