// output = activate((input - mean) * (gamma * inverse_deviation) + beta), channel by channel
//
// Tile: 1024 neighbouring pixels of one quad. Dispatch: [ceil(pixels / 1024), quads] workgroups of 256.
#import common/activation

struct Params {
    pixels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> input: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> mean: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> inverse_deviation: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> gamma: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> beta: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> output: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let quad = workgroup.y;
    let center = mean[quad];
    let scale = gamma[quad] * inverse_deviation[quad];
    let offset = beta[quad];
    let begin = workgroup.x * 1024u;
    let end = min(begin + 1024u, params.pixels);
    for (var pixel = begin + lane; pixel < end; pixel += 256u) {
        let element = quad * params.pixels + pixel;
        output[element] = activate((input[element] - center) * scale + offset);
    }
}
