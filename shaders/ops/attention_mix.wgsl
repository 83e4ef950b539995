// output[h, i, e] = sum_j mixing[h, i, j] * input[h, j, e]; with TRANSPOSED, mixing[h, j, i].
// Row-major: input and output are [heads, tokens, width], mixing [heads, tokens, tokens].
//
// Tile: one element an invocation. Dispatch: [ceil(heads * tokens * width / 256)] workgroups of 256, folded.
#import common/grid

struct Params {
    heads: u32,
    tokens: u32,
    width: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> mixing: array<f32>;
@group(0) @binding(2) var<storage, read_write> input: array<f32>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = flat_workgroup(workgroup, workgroups) * 256u + lane;
    if at >= params.heads * params.tokens * params.width {
        return;
    }
    let row = at / params.width;
    let element = at % params.width;
    let first_row = (row / params.tokens) * params.tokens;
    var sum = 0.0;
    for (var token = 0u; token < params.tokens; token += 1u) {
#ifdef TRANSPOSED
        let factor = mixing[(first_row + token) * params.tokens + (row - first_row)];
#else
        let factor = mixing[row * params.tokens + token];
#endif
        sum += factor * input[(first_row + token) * params.width + element];
    }
    output[at] = sum;
}
