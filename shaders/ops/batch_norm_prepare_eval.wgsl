// The normalisation of a batch norm (see common/source.wgsl) from its running statistics:
//   mean = running_mean, inverse_deviation = 1 / sqrt(running_variance + epsilon), scale = gamma * inverse_deviation,
//   shift = beta - mean * scale,   zeros in padding channels.
//
// Tile: one quad an invocation. Dispatch: [ceil(quads / 256)] workgroups of 256.
#import common/lanes

struct Params {
    quads: u32,
    channels: u32,
    epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> running_mean: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> running_variance: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> gamma: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> beta: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> normalisation: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) invocation: vec3<u32>) {
    let quad = invocation.x;
    if quad < params.quads {
        let mean = running_mean[quad];
        let inverse = clear_padding(1.0 / sqrt(running_variance[quad] + params.epsilon), quad, params.channels);
        let scale = gamma[quad] * inverse;
        normalisation[4u * quad] = scale;
        normalisation[4u * quad + 1u] = clear_padding(beta[quad] - mean * scale, quad, params.channels);
        normalisation[4u * quad + 2u] = mean;
        normalisation[4u * quad + 3u] = inverse;
    }
}
