// The column of a live block: its input quad and its tap, in one word that sorts by input quad, then by row of taps, then by tap.

// The column of a slot that holds no block.
const EMPTY: u32 = 0xffffffffu;

fn column_quad(column: u32) -> u32 {
    return column >> 16u;
}

fn column_tap_y(column: u32) -> u32 {
    return (column >> 8u) & 0xffu;
}

fn column_tap_x(column: u32) -> u32 {
    return column & 0xffu;
}

#ifdef BLOCK_QUADS
// A block of BLOCK_QUADS output quads is as many pieces of four by four; piece `block * BLOCK_QUADS + quad` is that of one of them.
fn piece_output(piece: u32, live: u32) -> u32 {
    return piece / BLOCK_QUADS / live * BLOCK_QUADS + piece % BLOCK_QUADS;
}
#endif
