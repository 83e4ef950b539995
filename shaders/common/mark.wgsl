// Pixels that are marked, as bits: 32 a word. The importing file declares the global binding `marks`.

fn is_marked(pixel: u32) -> bool {
    return (marks[pixel / 32u] >> (pixel % 32u) & 1u) != 0u;
}

// Where on one axis an input pixel meets an output pixel through a tap: (input + padding - tap * dilation) / stride, and far outside of any
// map where they do not meet.
fn met(padded: u32, tap: u32, stride: u32) -> u32 {
    let ahead = padded - tap;
    return select(0xffffffffu, ahead / stride, padded >= tap && ahead % stride == 0u);
}
