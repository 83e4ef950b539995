// Over the C channels of each pixel p:
//   mean = sum_c x[c] / C,  scale = 1 / sqrt(sum_c (x[c] - mean)^2 / C + epsilon)
//   output[c, p] = (x[c] - mean) * scale * weight[c] + bias[c],  statistics[p] = (mean, scale)
//
// Tile: 16 pixels, 16 invocations each. Dispatch: [ceil(pixels / 16)] workgroups of 256, folded.
#import common/grid
#import common/channel_tile

struct Params {
    pixels: u32,
    channels: u32,
    epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> input: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> weight: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> bias: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> output: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> statistics: array<vec2<f32>>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let pixel = flat_workgroup(workgroup, workgroups) * 16u + (lane & 15u);
    let safe_pixel = min(pixel, params.pixels - 1u);
    let quads = (params.channels + 3u) / 4u;

    var sum_here = 0.0;
    for (var quad = lane / 16u; quad < quads; quad += 16u) {
        let value = input[quad * params.pixels + safe_pixel];
        sum_here += sum_of_four(select(vec4(0.0), value, real_channels(quad, params.channels)));
    }
    let mean = tile_sum(lane, sum_here, params.channels) / f32(params.channels);

    // A second pass over centred values: the difference of two large sums would cancel.
    var square_here = 0.0;
    for (var quad = lane / 16u; quad < quads; quad += 16u) {
        let centred = input[quad * params.pixels + safe_pixel] - vec4(mean);
        let square = select(vec4(0.0), centred * centred, real_channels(quad, params.channels));
        square_here += sum_of_four(square);
    }
    let variance = tile_sum(lane, square_here, params.channels) / f32(params.channels);
    let scale = 1.0 / sqrt(variance + params.epsilon);

    if pixel < params.pixels {
        for (var quad = lane / 16u; quad < quads; quad += 16u) {
            let element = quad * params.pixels + pixel;
            let value = (input[element] - vec4(mean)) * scale * weight[quad] + bias[quad];
            output[element] = select(vec4(0.0), value, real_channels(quad, params.channels));
        }
        if lane < 16u {
            statistics[pixel] = vec2(mean, scale);
        }
    }
}
