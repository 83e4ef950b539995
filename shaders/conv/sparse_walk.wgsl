// walk = the pieces of live blocks of every SPAN target quads, in ascending order of source quad, row of taps and piece; then EMPTY
//
// A piece is four output channels of a block of BLOCK_QUADS output quads (common/column.wgsl).
// Targets are output quads, and walk[SPAN * live * s ..] is that of span s; TRANSPOSED: targets are input quads, and their parts
// follow each other in the second half of `walk`. It is what sparse_strip.wgsl walks.
// Tile: one source quad and row of one span an invocation, which counts the pieces before to find where its own begin, as
// sparse_transpose.wgsl does. Dispatch: [ceil(bins / 64)] workgroups of 64, folded.
#import common/grid
#import common/column

struct Params {
    // Spans * source quads * rows.
    bins: u32,
    source_quads: u32,
    rows: u32,
    live: u32,
    // Pieces of all slots.
    pieces: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> columns: array<u32>;
@group(0) @binding(2) var<storage, read_write> walk: array<u32>;

fn bin_of(piece: u32, column: u32) -> u32 {
    let output_quad = piece_output(piece, params.live);
#ifdef TRANSPOSED
    let target_quad = column_quad(column);
    let source_quad = output_quad;
#else
    let target_quad = output_quad;
    let source_quad = column_quad(column);
#endif
    return (target_quad / SPAN * params.source_quads + source_quad) * params.rows + column_tap_y(column);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let bin = flat_workgroup(workgroup, workgroups) * 64u + lane;
    if bin >= params.bins {
        return;
    }
#ifdef TRANSPOSED
    let begin = 0u;
    let end = params.pieces;
    let offset = params.pieces;
    let last = bin == params.bins - 1u;
#else
    let bins_of_span = params.source_quads * params.rows;
    let span = bin / bins_of_span;
    let begin = span * SPAN * params.live;
    let end = min(begin + SPAN * params.live, params.pieces);
    let offset = 0u;
    let last = bin == span * bins_of_span + bins_of_span - 1u;
#endif
    var at = begin;
    for (var piece = begin; piece < end; piece++) {
        let column = columns[piece / BLOCK_QUADS];
        at += u32(column != EMPTY && bin_of(piece, column) < bin);
    }
    for (var piece = begin; piece < end; piece++) {
        let column = columns[piece / BLOCK_QUADS];
        if column != EMPTY && bin_of(piece, column) == bin {
            walk[offset + at] = piece;
            at++;
        }
    }
    if last {
        for (; at < end; at++) {
            walk[offset + at] = EMPTY;
        }
    }
}
