// entries[starts[i] .. starts[i + 1]] = the live blocks of input quad i, in ascending order
//
// Tile: one input quad an invocation, which counts the blocks of lower quads to find where its own begin: no sum over invocations, no
// atomics, the same order every time. It runs once a change of the mask. Dispatch: [ceil((input_quads + 1) / 64)] workgroups of 64, folded.
#import common/grid
#import common/column

struct Params {
    input_quads: u32,
    // Slots of all output groups.
    blocks: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> columns: array<u32>;
@group(0) @binding(2) var<storage, read_write> starts: array<u32>;
@group(0) @binding(3) var<storage, read_write> entries: array<u32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let input_quad = flat_workgroup(workgroup, workgroups) * 64u + lane;
    if input_quad > params.input_quads {
        return;
    }
    var at = 0u;
    for (var block = 0u; block < params.blocks; block++) {
        let column = columns[block];
        at += u32(column != EMPTY && column_quad(column) < input_quad);
    }
    starts[input_quad] = at;
    if input_quad == params.input_quads {
        // Entries of empty slots are never read, but nothing is left unwritten.
        for (; at < params.blocks; at++) {
            entries[at] = EMPTY;
        }
        return;
    }
    for (var block = 0u; block < params.blocks; block++) {
        if columns[block] != EMPTY && column_quad(columns[block]) == input_quad {
            entries[at] = block;
            at++;
        }
    }
}
