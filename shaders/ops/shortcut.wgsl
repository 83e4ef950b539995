// output[n, channel_offset + c, y, x] = input[n, c, stride * y, stride * x], zero in all other channels.
//
// The input is read through its normalisation and activation, see common/source.wgsl.
// Tile: 1024 neighbouring pixels of one output quad. Dispatch: [ceil(output pixels / 1024), output quads] workgroups of 256.
#import common/lanes
#import common/source

struct Params {
    output_pixels: u32,
    output_height: u32,
    output_width: u32,
    input_pixels: u32,
    input_height: u32,
    input_width: u32,
    input_quads: u32,
    channel_offset: u32,
    stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> source: array<vec4<f32>>;
#ifdef NORMALISE
@group(0) @binding(2) var<storage, read_write> normalisation: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> output: array<vec4<f32>>;
#else
@group(0) @binding(2) var<storage, read_write> output: array<vec4<f32>>;
#endif

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    // Lane 0 of this output quad is lane `shift` of input quad `high_quad - 1`; padding of the input is zero.
    let high_quad = i32(workgroup.y) + 1 - i32((params.channel_offset + 3u) / 4u);
    let shift = (4u - params.channel_offset % 4u) % 4u;
    let last_quad = i32(params.input_quads) - 1;
    let low_scaling = scaling_of(u32(clamp(high_quad - 1, 0, last_quad)));
    let high_scaling = scaling_of(u32(clamp(high_quad, 0, last_quad)));
    let begin = workgroup.x * 1024u;
    let end = min(begin + 1024u, params.output_pixels);
    for (var pixel = begin + lane; pixel < end; pixel += 256u) {
        let x = pixel % params.output_width;
        let row = pixel / params.output_width;
        let image = row / params.output_height;
        let y = row % params.output_height;
        let from_pixel = (image * params.input_height + y * params.stride) * params.input_width + x * params.stride;
        var low = vec4<f32>(0.0);
        var high = vec4<f32>(0.0);
        if high_quad > 0 && high_quad <= i32(params.input_quads) {
            low = load_source(low_scaling, u32(high_quad - 1) * params.input_pixels + from_pixel);
        }
        if shift > 0u && high_quad >= 0 && high_quad < i32(params.input_quads) {
            high = load_source(high_scaling, u32(high_quad) * params.input_pixels + from_pixel);
        }
        output[workgroup.y * params.output_pixels + pixel] = shift_lanes(low, high, shift);
    }
}
