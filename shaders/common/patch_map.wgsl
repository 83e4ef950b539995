// The map that patches in workgroup memory are cut from, as runs of neighbouring pixels: ROWS by COLUMNS an image, which begins with the
// padding above and on the left and is as large as lets the taps beyond its end fall on the padding of what follows. A tap is then the same
// step from every pixel, and a patch that is read serves all taps. ROWS and COLUMNS are constants, since divisions by them are many; a map that
// is one row for all taps to see is told as one without an end.
//
// The importing file declares `params` with images, source_height, source_width, origin_y and origin_x.

struct Place {
    image: u32,
    y: u32,
    x: u32,
}

fn place_of(at: u32, height: u32, width: u32) -> Place {
    let row = at / width;
    let image = row / height;
    return Place(image, row - image * height, at - row * width);
}

struct Found {
    // Of a source plane; 0 where it is padding.
    pixel: u32,
    inside: bool,
}

// The source pixel at a place of the map.
fn place_in_source(at: u32) -> Found {
    let place = place_of(at, ROWS, COLUMNS);
    let y = u32(i32(place.y) + params.origin_y);
    let x = u32(i32(place.x) + params.origin_x);
    let inside = place.image < params.images && y < params.source_height && x < params.source_width;
    return Found(select(0u, (place.image * params.source_height + y) * params.source_width + x, inside), inside);
}
