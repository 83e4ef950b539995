// With d[h, i, j] = sum_e output_gradient[h, i, e] * value[h, j, e], the gradient of the scores before the softmax, times scale:
//   score_gradient[h, i, j] = scale * probabilities[h, i, j] * (d[h, i, j] - sum_k probabilities[h, i, k] * d[h, i, k])
// Row-major: value and output_gradient are [heads, tokens, width], the others [heads, tokens, tokens].
//
// Tile: one row (h, i) a workgroup, invocation `lane` taking columns lane, lane + 64, ... Every invocation reads back only what it
// wrote itself. Dispatch: [heads * tokens] workgroups of 64, folded.
#import common/grid

struct Params {
    heads: u32,
    tokens: u32,
    width: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> value: array<f32>;
@group(0) @binding(2) var<storage, read_write> probabilities: array<f32>;
@group(0) @binding(3) var<storage, read_write> output_gradient: array<f32>;
@group(0) @binding(4) var<storage, read_write> score_gradient: array<f32>;

var<workgroup> partial: array<f32, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = flat_workgroup(workgroup, workgroups);
    if row >= params.heads * params.tokens {
        return;
    }
    let first_value = (row / params.tokens) * params.tokens;

    var product = 0.0;
    for (var column = lane; column < params.tokens; column += 64u) {
        var probability_gradient = 0.0;
        for (var element = 0u; element < params.width; element += 1u) {
            probability_gradient += output_gradient[row * params.width + element]
                * value[(first_value + column) * params.width + element];
        }
        score_gradient[row * params.tokens + column] = probability_gradient;
        product += probabilities[row * params.tokens + column] * probability_gradient;
    }
    partial[lane] = product;
    workgroupBarrier();
    for (var stride = 32u; stride > 0u; stride >>= 1u) {
        if lane < stride {
            partial[lane] += partial[lane + stride];
        }
        workgroupBarrier();
    }
    product = partial[0];
    for (var column = lane; column < params.tokens; column += 64u) {
        let at = row * params.tokens + column;
        score_gradient[at] = params.scale * probabilities[at] * (score_gradient[at] - product);
    }
}
