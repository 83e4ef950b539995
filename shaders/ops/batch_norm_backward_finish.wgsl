// Second pass of the gradients of a batch norm: beta_gradient = sum of g, gamma_gradient = sum of g * normalised input, over the
// slices in `workspace`; then, behind the slices, the two coefficients of a quad that the third pass reads:
//   share * beta_gradient, share * gamma_gradient * inverse_deviation
// `share` is 1 / pixels where the statistics were those of the batch, and 0 where they were constants.
//
// Tile: one quad, every LANES-th slice a lane. Dispatch: [quads] workgroups of LANES.

struct Params {
    slices: u32,
    first_coefficient: u32,
    share: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> normalisation: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> workspace: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> gamma_gradient: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> beta_gradient: array<vec4<f32>>;

#import common/sum_pairs

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let quad = workgroup.x;
    var first = vec4<f32>(0.0);
    var second = vec4<f32>(0.0);
    for (var slice = lane; slice < params.slices; slice += LANES) {
        let record = 2u * (quad * params.slices + slice);
        first += workspace[record];
        second += workspace[record + 1u];
    }
    lane_first[lane] = first;
    lane_second[lane] = second;
    sum_pairs(lane, min(params.slices, LANES));
    if lane == 0u {
        beta_gradient[quad] = lane_first[0];
        gamma_gradient[quad] = lane_second[0];
        let coefficient = params.first_coefficient + 2u * quad;
        workspace[coefficient] = params.share * lane_first[0];
        workspace[coefficient + 1u] = params.share * lane_second[0] * normalisation[4u * quad + 3u];
    }
}
