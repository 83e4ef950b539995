// Second pass of the statistics of a batch norm: the slices of a quad, or what the workgroups of a convolution found of it, are merged as
// lanes are in the first pass; then, M = pixels,
//   mean, inverse_deviation = 1 / sqrt(squares / M + epsilon)
//   running_mean     = (1 - momentum) * running_mean     + momentum * mean
//   running_variance = (1 - momentum) * running_variance + momentum * squares / max(M - 1, 1)
// and the normalisation that consumers load through (common/source.wgsl), four vectors a quad:
//   scale = gamma * inverse_deviation, shift = beta - mean * scale, mean, inverse_deviation
// with zeros in padding channels. Of a map in slabs there is a list of moments for each, `stride` vectors from one to the next.
//
// Tile: one quad, every LANES-th slice of each list a lane. Dispatch: [quads] workgroups of LANES.
#import common/lanes

struct Params {
    pixels: u32,
    channels: u32,
    epsilon: f32,
    momentum: f32,
    lists: u32,
    stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> moments: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> running_mean: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> running_variance: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> gamma: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> beta: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> normalisation: array<vec4<f32>>;

#import common/moments

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let quad = workgroup.x;
    var most = 0u;
    var merged = 0.0;
    var mean = vec4<f32>(0.0);
    var squares = vec4<f32>(0.0);
    for (var list = 0u; list < params.lists; list++) {
        let first = list * params.stride;
        let slices = u32(moments[first].x);
        most = max(most, slices);
        for (var slice = lane; slice < slices; slice += LANES) {
            let record = first + 1u + 3u * (slice * workgroups.x + quad);
            let other = moments[record + 2u].x;
            let total = merged + other;
            let delta = moments[record] - mean;
            mean += delta * (other / total);
            squares += moments[record + 1u] + delta * delta * (merged * other / total);
            merged = total;
        }
    }
    lane_count[lane] = merged;
    lane_mean[lane] = mean;
    lane_squares[lane] = squares;
    merge_moments(lane, min(most, LANES));
    if lane == 0u {
        let count = f32(params.pixels);
        let quad_mean = lane_mean[0];
        let variance = lane_squares[0] / count;
        let unbiased = lane_squares[0] / max(count - 1.0, 1.0);
        let inverse = clear_padding(1.0 / sqrt(variance + params.epsilon), quad, params.channels);
        let scale = gamma[quad] * inverse;
        normalisation[4u * quad] = scale;
        normalisation[4u * quad + 1u] = clear_padding(beta[quad] - quad_mean * scale, quad, params.channels);
        normalisation[4u * quad + 2u] = quad_mean;
        normalisation[4u * quad + 3u] = inverse;
        running_mean[quad] = (1.0 - params.momentum) * running_mean[quad] + params.momentum * quad_mean;
        running_variance[quad] = (1.0 - params.momentum) * running_variance[quad] + params.momentum * unbiased;
    }
}
