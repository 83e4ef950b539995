// What the forward and backward of a batch norm read, from the running statistics:
//   mean = running_mean, inverse_deviation = 1 / sqrt(running_variance + epsilon), zeros in padding channels.
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
@group(0) @binding(3) var<storage, read_write> mean: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> inverse_deviation: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) invocation: vec3<u32>) {
    let quad = invocation.x;
    if quad < params.quads {
        mean[quad] = running_mean[quad];
        let inverse = 1.0 / sqrt(running_variance[quad] + params.epsilon);
        inverse_deviation[quad] = clear_padding(inverse, quad, params.channels);
    }
}
