// bias_gradient[c] = sum_p output_gradient[c, p]
// weight_gradient[c] = sum_p output_gradient[c, p] * (input[c, p] - mean[p]) * scale[p]
//
// Tile: one quad a workgroup; invocation i sums pixels i, i + 256, ..., then a tree, so the order is fixed.
// Dispatch: [ceil(channels / 4)] workgroups of 256.

struct Params {
    pixels: u32,
    channels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> input: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> statistics: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> output_gradient: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> weight_gradient: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> bias_gradient: array<vec4<f32>>;

var<workgroup> weight_sums: array<vec4<f32>, 256>;
var<workgroup> bias_sums: array<vec4<f32>, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let quad = workgroup.x;
    var weight_sum = vec4(0.0);
    var bias_sum = vec4(0.0);
    for (var pixel = lane; pixel < params.pixels; pixel += 256u) {
        let element = quad * params.pixels + pixel;
        let gradient = output_gradient[element];
        let mean_and_scale = statistics[pixel];
        weight_sum += gradient * (input[element] - vec4(mean_and_scale.x)) * mean_and_scale.y;
        bias_sum += gradient;
    }
    weight_sums[lane] = weight_sum;
    bias_sums[lane] = bias_sum;
    workgroupBarrier();
    for (var stride = 128u; stride > 0u; stride >>= 1u) {
        if lane < stride {
            weight_sums[lane] += weight_sums[lane + stride];
            bias_sums[lane] += bias_sums[lane + stride];
        }
        workgroupBarrier();
    }
    if lane == 0u {
        let real = vec4(quad * 4u) + vec4(0u, 1u, 2u, 3u) < vec4(params.channels);
        weight_gradient[quad] = select(vec4(0.0), weight_sums[0], real);
        bias_gradient[quad] = select(vec4(0.0), bias_sums[0], real);
    }
}
