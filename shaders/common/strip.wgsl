// Strips of a map, down which an invocation walks: `rows` cells high, cut side by side and one below the other out of every image.
//
// The importing file declares `params` with `strips`, `strips_per_row`, `bands`, `rows` and the first cell, `first_y` and `first_x`, and the
// constant TILE.

struct Strip {
    live: bool,
    // 0 where it is not live.
    image: u32,
    // Its first cell.
    y: u32,
    x: u32,
}

fn strip_at(index: u32) -> Strip {
    let live = index < params.strips;
    let band = index / params.strips_per_row;
    return Strip(
        live,
        select(0u, band / params.bands, live),
        params.first_y + (band % params.bands) * params.rows,
        params.first_x + (index % params.strips_per_row) * TILE,
    );
}
