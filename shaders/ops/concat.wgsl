// One input of a concatenation: output[channel_offset + channel, pixel] = input[channel, pixel], on the whole output quads that
// these channels touch. The lanes before `channel_offset` are kept, they belong to inputs written before; the lanes behind the
// last channel become zero, to be written by the next input or to pad.
//
// The input is read through its normalisation and activation, see common/source.wgsl.
// Tile: 1024 neighbouring pixels of one output quad. Dispatch: [ceil(pixels / 1024), output quads touched] workgroups of 256.
#import common/lanes
#import common/source

struct Params {
    pixels: u32,
    input_quads: u32,
    channel_offset: u32,
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
    let high_quad = workgroup.y + 1u - (params.channel_offset % 4u + 3u) / 4u;
    let shift = (4u - params.channel_offset % 4u) % 4u;
    let first_output = (params.channel_offset / 4u + workgroup.y) * params.pixels;
    let kept = vec4<bool>(workgroup.y == 0u)
        & (vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(params.channel_offset % 4u));
    let low_scaling = scaling_of(max(high_quad, 1u) - 1u);
    let high_scaling = scaling_of(min(high_quad, params.input_quads - 1u));
    let begin = workgroup.x * 1024u;
    let end = min(begin + 1024u, params.pixels);
    for (var pixel = begin + lane; pixel < end; pixel += 256u) {
        var low = vec4<f32>(0.0);
        var high = vec4<f32>(0.0);
        if high_quad > 0u {
            low = load_source(low_scaling, (high_quad - 1u) * params.pixels + pixel);
        }
        if shift > 0u && high_quad < params.input_quads {
            high = load_source(high_scaling, high_quad * params.pixels + pixel);
        }
        var result = shift_lanes(low, high, shift);
        if any(kept) {
            result = select(result, output[first_output + pixel], kept);
        }
        output[first_output + pixel] = result;
    }
}
