// The gradient of one input of a concatenation: input_gradient[channel, pixel] = output_gradient[channel_offset + channel, pixel],
// zero in padding channels.
//
// Tile: 1024 neighbouring pixels of one quad. Dispatch: [ceil(pixels / 1024), input quads] workgroups of 256.
#import common/lanes

struct Params {
    pixels: u32,
    channels: u32,
    output_quads: u32,
    channel_offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> output_gradient: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> input_gradient: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let low_quad = workgroup.y + params.channel_offset / 4u;
    let shift = params.channel_offset % 4u;
    let begin = workgroup.x * 1024u;
    let end = min(begin + 1024u, params.pixels);
    for (var pixel = begin + lane; pixel < end; pixel += 256u) {
        let low = output_gradient[low_quad * params.pixels + pixel];
        var high = vec4<f32>(0.0);
        if shift > 0u && low_quad + 1u < params.output_quads {
            high = output_gradient[(low_quad + 1u) * params.pixels + pixel];
        }
        let result = shift_lanes(low, high, shift);
        input_gradient[workgroup.y * params.pixels + pixel] = clear_padding(result, workgroup.y, params.channels);
    }
}
