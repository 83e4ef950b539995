// transformed[position, o, i] = (G weight[o, i] G^T)[position]    for F(SIZE, 3) in both directions, positions row by row
// TRANSPOSED: the block transposed and the taps in reverse, for the input gradient; its weights are read number by number, since a vector is a
// row of a block, and a column is wanted.
//
// Tile: one row of a block (four target channels for one source channel) an invocation, from target quad `first_quad` on.
// Dispatch: [ceil(rows / 64)] workgroups of 64, folded.
#import common/grid
#import common/turns
#import common/winograd

struct Params {
    // vec4s of one position: as many target quads as are wanted * source_quads * 4.
    rows: u32,
    first_quad: u32,
    source_quads: u32,
    // Input quads that an output quad has blocks for.
    slots: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
#ifdef TRANSPOSED
@group(0) @binding(1) var<storage, read_write> weight: array<f32>;
#else
@group(0) @binding(1) var<storage, read_write> weight: array<vec4<f32>>;
#endif
@group(0) @binding(2) var<storage, read_write> transformed: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = flat_workgroup(workgroup, workgroups) * 64u + lane;
    let used = min(at, params.rows - 1u);
    let channel = used % 4u;
    let source_quad = used / 4u % params.source_quads;
    let target_quad = params.first_quad + used / 4u / params.source_quads;
    // One row a turn, then one column, see common/turns.wgsl.
    var rows: array<array<vec4<f32>, ALPHA>, 3>;
    let row_end = turns(3u, params.rows);
    for (var tap_y = 0u; tap_y < row_end; tap_y++) {
        rows[0] = rows[1];
        rows[1] = rows[2];
#for tap_x in 0..3
#ifdef TRANSPOSED
        let block_{tap_x} = ((source_quad * 9u + (8u - tap_y * 3u - {tap_x}u)) * params.slots + target_quad) * 16u + channel;
        let tap_{tap_x} = vec4<f32>(weight[block_{tap_x}], weight[block_{tap_x} + 4u], weight[block_{tap_x} + 8u], weight[block_{tap_x} + 12u]);
#else
        let tap_{tap_x} = weight[((target_quad * 9u + tap_y * 3u + {tap_x}u) * params.slots + source_quad) * 4u + channel];
#endif
#endfor
        rows[2] = weight_transform(array<vec4<f32>, 3>(tap_0, tap_1, tap_2));
    }
    if at < params.rows {
        let column_end = turns(ALPHA, params.rows);
        for (var x = 0u; x < column_end; x++) {
            let column = weight_transform(array<vec4<f32>, 3>(rows[0][0], rows[1][0], rows[2][0]));
#for y in 0..ALPHA
            transformed[({y}u * ALPHA + x) * params.rows + at] = column[{y}];
#endfor
#for next in 1..ALPHA
#for row in 0..3
            rows[{row}][{next} - 1] = rows[{row}][{next}];
#endfor
#endfor
        }
    }
}
