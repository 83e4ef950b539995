// output[c, p] = exp(input[c, p] - largest[p]) / sum_k exp(input[k, p] - largest[p]), over the channels of each pixel
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
@group(0) @binding(2) var<storage, read_write> output: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let pixel = flat_workgroup(workgroup, workgroups) * 16u + (lane & 15u);
    let safe_pixel = min(pixel, params.pixels - 1u);
    let quads = (params.channels + 3u) / 4u;

    var largest_here = LOWEST;
    for (var quad = lane / 16u; quad < quads; quad += 16u) {
        let real = real_channels(quad, params.channels);
        let kept = select(vec4(LOWEST), input[quad * params.pixels + safe_pixel], real);
        largest_here = max(largest_here, max(max(kept.x, kept.y), max(kept.z, kept.w)));
    }
    let largest = tile_max(lane, largest_here, params.channels);

    var total_here = 0.0;
    for (var quad = lane / 16u; quad < quads; quad += 16u) {
        let value = exp(input[quad * params.pixels + safe_pixel] - vec4(largest));
        total_here += sum_of_four(select(vec4(0.0), value, real_channels(quad, params.channels)));
    }
    let total = tile_sum(lane, total_here, params.channels);

    if pixel < params.pixels {
        for (var quad = lane / 16u; quad < quads; quad += 16u) {
            let value = exp(input[quad * params.pixels + pixel] - vec4(largest)) / total;
            output[quad * params.pixels + pixel] =
                select(vec4(0.0), value, real_channels(quad, params.channels));
        }
    }
}
