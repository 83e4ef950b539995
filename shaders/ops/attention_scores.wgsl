// probabilities[h, i, j] = softmax over j of scale * sum_e query[h, i, e] * key[h, j, e]
// Row-major: query and key are [heads, tokens, width], probabilities [heads, tokens, tokens]; `heads` counts all heads of all images.
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
@group(0) @binding(1) var<storage, read_write> query: array<f32>;
@group(0) @binding(2) var<storage, read_write> key: array<f32>;
@group(0) @binding(3) var<storage, read_write> probabilities: array<f32>;

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
    let first_key = (row / params.tokens) * params.tokens;

    var largest = -3.4028234e38;
    for (var column = lane; column < params.tokens; column += 64u) {
        var score = 0.0;
        for (var element = 0u; element < params.width; element += 1u) {
            score += query[row * params.width + element] * key[(first_key + column) * params.width + element];
        }
        score *= params.scale;
        probabilities[row * params.tokens + column] = score;
        largest = max(largest, score);
    }
    partial[lane] = largest;
    workgroupBarrier();
    for (var stride = 32u; stride > 0u; stride >>= 1u) {
        if lane < stride {
            partial[lane] = max(partial[lane], partial[lane + stride]);
        }
        workgroupBarrier();
    }
    largest = partial[0];
    workgroupBarrier();

    var total = 0.0;
    for (var column = lane; column < params.tokens; column += 64u) {
        let value = exp(probabilities[row * params.tokens + column] - largest);
        probabilities[row * params.tokens + column] = value;
        total += value;
    }
    partial[lane] = total;
    workgroupBarrier();
    for (var stride = 32u; stride > 0u; stride >>= 1u) {
        if lane < stride {
            partial[lane] += partial[lane + stride];
        }
        workgroupBarrier();
    }
    total = partial[0];
    for (var column = lane; column < params.tokens; column += 64u) {
        probabilities[row * params.tokens + column] /= total;
    }
}
