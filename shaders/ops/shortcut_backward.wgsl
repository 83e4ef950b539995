// input_gradient[n, c, stride * y, stride * x] = output_gradient[n, channel_offset + c, y, x], zero in all other pixels.
// ACCUMULATE: added to what the input gradient holds.
//
// Tile: 1024 neighbouring pixels of one input quad. Dispatch: [ceil(input pixels / 1024), input quads] workgroups of 256.
#import common/lanes

struct Params {
    input_pixels: u32,
    input_height: u32,
    input_width: u32,
    channels: u32,
    output_pixels: u32,
    output_height: u32,
    output_width: u32,
    output_quads: u32,
    channel_offset: u32,
    stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> output_gradient: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> input_gradient: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let low_quad = workgroup.y + params.channel_offset / 4u;
    let shift = params.channel_offset % 4u;
    let begin = workgroup.x * 1024u;
    let end = min(begin + 1024u, params.input_pixels);
    for (var pixel = begin + lane; pixel < end; pixel += 256u) {
        let element = workgroup.y * params.input_pixels + pixel;
        let x = pixel % params.input_width;
        let row = pixel / params.input_width;
        let image = row / params.input_height;
        let y = row % params.input_height;
        var result = vec4<f32>(0.0);
        if x % params.stride == 0u && y % params.stride == 0u {
            let source = (image * params.output_height + y / params.stride) * params.output_width + x / params.stride;
            let low = output_gradient[low_quad * params.output_pixels + source];
            var high = vec4<f32>(0.0);
            if shift > 0u && low_quad + 1u < params.output_quads {
                high = output_gradient[(low_quad + 1u) * params.output_pixels + source];
            }
            result = clear_padding(shift_lanes(low, high, shift), workgroup.y, params.channels);
        }
#ifdef ACCUMULATE
        result += input_gradient[element];
#endif
        input_gradient[element] = result;
    }
}
