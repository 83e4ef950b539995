// Where the maxima of a pool stand, TAP_BITS a channel. A word tells of WORD_PIXELS quads of a plane, 64 pixels apart: an invocation has
// them all without asking others, and neighbours still read and write neighbouring memory.

const WORD_PIXELS: u32 = 8u / TAP_BITS;

fn plane_words(pixels: u32) -> u32 {
    return pixels / (64u * WORD_PIXELS) * 64u + min(pixels % (64u * WORD_PIXELS), 64u);
}

// The word, in its plane, that tells of a pixel.
fn word_of(pixel: u32) -> u32 {
    return pixel / (64u * WORD_PIXELS) * 64u + pixel % 64u;
}

// The taps of a pixel, of its word.
fn taps_of(word: u32, pixel: u32) -> vec4<u32> {
    let quad = word >> (pixel / 64u % WORD_PIXELS * 4u * TAP_BITS);
    return (vec4<u32>(quad) >> (vec4<u32>(0u, 1u, 2u, 3u) * TAP_BITS)) & vec4<u32>((1u << TAP_BITS) - 1u);
}
