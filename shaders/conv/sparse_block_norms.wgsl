// norm[g, c] = |dense block of output group g and candidate c|_2, from stacks of blocks [output quad][tap][slot]
//
// Candidate c of a group is tap c % taps of its input quad c / taps.
// Tile: one block an invocation. Dispatch: [ceil(output_groups * candidates / 64)] workgroups of 64, folded.
#import common/grid

struct Params {
    blocks: u32,
    candidates: u32,
    taps: u32,
    slots: u32,
    // Output quads of a group.
    quads: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> dense: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> norm: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = flat_workgroup(workgroup, workgroups) * 64u + lane;
    if at >= params.blocks {
        return;
    }
    let group = at / params.candidates;
    let candidate = at - group * params.candidates;
    let slot = candidate / params.taps;
    let tap = candidate - slot * params.taps;
    var squares = vec4<f32>();
    for (var quad = 0u; quad < params.quads; quad++) {
        let block = ((group * params.quads + quad) * params.taps + tap) * params.slots + slot;
        for (var row = 0u; row < 4u; row++) {
            let value = dense[block * 4u + row];
            squares = fma(value, value, squares);
        }
    }
    norm[at] = sqrt((squares.x + squares.y) + (squares.z + squares.w));
}
