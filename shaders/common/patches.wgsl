// Patches of a map: along each axis, row `y` belongs to patch `(y + offset) / window`, or to the first or last one where that is beyond.

struct Place {
    image: u32,
    y: u32,
    x: u32,
}

// Where a patch of a batch stands.
fn patch_place(at: u32, patches_y: u32, patches_x: u32) -> Place {
    let row = at / patches_x;
    let image = row / patches_y;
    return Place(image, row - image * patches_y, at - row * patches_x);
}

// The rows of a patch, from x up to before y; none where it lies in the padding alone.
fn patch_rows(index: u32, patches: u32, window: u32, offset: i32, extent: u32) -> vec2<u32> {
    let start = i32(index * window) - offset;
    let begin = select(clamp(start, 0, i32(extent)), 0, index == 0u);
    let end = select(clamp(start + i32(window), begin, i32(extent)), i32(extent), index == patches - 1u);
    return vec2<u32>(u32(begin), u32(end));
}
