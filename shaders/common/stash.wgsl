// Decodes compressed activations element by element: what a kernel reads instead of the values themselves.
//
// The importing shader declares `stash: array<vec4<u32>>` and gives the defines of the codec (`loader_defines` of smidgen-stash).
// One element is the vec4 at `pixel` of plane `quad` of a tensor of `quads` planes of `pixels` vec4s:
//   stash_load(quad, pixel, quads, pixels)    the values                   (all codecs that hold values)
//   stash_slope(quad, pixel, quads, pixels)   1 where the gradient passes  (all but STASH_LINEAR, STASH_LATTICE, STASH_TAPS)
//   stash_codes(first, quad, pixel, pixels)   the bare integers            (all but STASH_HALF)
//
// A word holds STASH_PIXELS neighbouring pixels of a plane, four codes of STASH_BITS bits each, lowest bits first; a plane begins on a
// word. A group is one lane of STASH_GROUP neighbouring pixels of a plane; the last group of a plane may be shorter.
//   STASH_LINEAR     headers (a vec4 a block of four groups), words;  value = minimum + code * step
//   STASH_RECTIFIED  the same;                                        value = 0 at code 0, else minimum + (code - 1) * step
//   STASH_SIGNED     the same;                                        value = +-(code & 7) * step of its sign, bit 3: above zero
//   STASH_LATTICE    the step (16 bytes), a byte a group, words;      value = (code - bias) * step * 2^raised
//   STASH_MASK, STASH_SIX, STASH_TAPS   words only
//   STASH_HALF       four f16 an element
// A header is two 16-bit floats with the exponent of f32: the minimum (or the step above zero) in the high half, the step (below zero) in
// the low half. A step and a code have 8 significant bits each, so their product is exact and it does not matter whether it is fused.

#ifdef STASH_HALF
fn stash_load(quad: u32, pixel: u32, quads: u32, pixels: u32) -> vec4<f32> {
    let element = quad * pixels + pixel;
    let words = stash[element / 2u];
    let halves = select(words.xy, words.zw, element % 2u == 1u);
    return vec4<f32>(unpack2x16float(halves.x), unpack2x16float(halves.y));
}

fn stash_slope(quad: u32, pixel: u32, quads: u32, pixels: u32) -> vec4<f32> {
    return select(vec4<f32>(), vec4<f32>(1.0), stash_load(quad, pixel, quads, pixels) > vec4<f32>());
}
#else
const STASH_PIXELS: u32 = 8u / STASH_BITS;

fn stash_codes(first: u32, quad: u32, pixel: u32, pixels: u32) -> vec4<u32> {
    let words = (pixels + STASH_PIXELS - 1u) / STASH_PIXELS;
    let at = first + quad * words + pixel / STASH_PIXELS;
    let word = stash[at / 4u][at % 4u] >> (pixel % STASH_PIXELS * 4u * STASH_BITS);
    return (vec4<u32>(word) >> (vec4<u32>(0u, 1u, 2u, 3u) * STASH_BITS)) & vec4<u32>((1u << STASH_BITS) - 1u);
}
#endif

#ifdef STASH_LINEAR
fn stash_load(quad: u32, pixel: u32, quads: u32, pixels: u32) -> vec4<f32> {
    let blocks = (pixels + STASH_GROUP - 1u) / STASH_GROUP;
    let header = stash[quad * blocks + pixel / STASH_GROUP];
    let codes = stash_codes(quads * blocks * 4u, quad, pixel, pixels);
    return bitcast<vec4<f32>>(header & vec4<u32>(0xffff0000u)) + vec4<f32>(codes) * bitcast<vec4<f32>>(header << vec4<u32>(16u));
}
#endif

#ifdef STASH_RECTIFIED
fn stash_load(quad: u32, pixel: u32, quads: u32, pixels: u32) -> vec4<f32> {
    let blocks = (pixels + STASH_GROUP - 1u) / STASH_GROUP;
    let header = stash[quad * blocks + pixel / STASH_GROUP];
    let codes = stash_codes(quads * blocks * 4u, quad, pixel, pixels);
    let steps = vec4<f32>(max(codes, vec4<u32>(1u)) - vec4<u32>(1u));
    let minimum = header & vec4<u32>(0xffff0000u);
    let decoded = bitcast<vec4<f32>>(minimum) + steps * bitcast<vec4<f32>>(header << vec4<u32>(16u));
    // A group that held something not finite is NaN in every element, its zeros included.
    return select(decoded, vec4<f32>(), (codes == vec4<u32>(0u)) & (minimum < vec4<u32>(0x7f800000u)));
}

fn stash_slope(quad: u32, pixel: u32, quads: u32, pixels: u32) -> vec4<f32> {
    let blocks = (pixels + STASH_GROUP - 1u) / STASH_GROUP;
    let codes = stash_codes(quads * blocks * 4u, quad, pixel, pixels);
    return select(vec4<f32>(), vec4<f32>(1.0), codes > vec4<u32>(0u));
}
#endif

#ifdef STASH_SIGNED
fn stash_load(quad: u32, pixel: u32, quads: u32, pixels: u32) -> vec4<f32> {
    let blocks = (pixels + STASH_GROUP - 1u) / STASH_GROUP;
    let header = stash[quad * blocks + pixel / STASH_GROUP];
    let codes = stash_codes(quads * blocks * 4u, quad, pixel, pixels);
    let above = codes > vec4<u32>(7u);
    let step = select(-bitcast<vec4<f32>>(header << vec4<u32>(16u)), bitcast<vec4<f32>>(header & vec4<u32>(0xffff0000u)), above);
    return vec4<f32>(codes & vec4<u32>(7u)) * step;
}

fn stash_slope(quad: u32, pixel: u32, quads: u32, pixels: u32) -> vec4<f32> {
    let blocks = (pixels + STASH_GROUP - 1u) / STASH_GROUP;
    let codes = stash_codes(quads * blocks * 4u, quad, pixel, pixels);
    return select(vec4<f32>(), vec4<f32>(1.0), codes > vec4<u32>(7u));
}
#endif

#ifdef STASH_LATTICE
fn stash_load(quad: u32, pixel: u32, quads: u32, pixels: u32) -> vec4<f32> {
    let blocks = (pixels + STASH_GROUP - 1u) / STASH_GROUP;
    let at = 4u + quad * blocks + pixel / STASH_GROUP;
    let group = (vec4<u32>(stash[at / 4u][at % 4u]) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u);
    let codes = stash_codes(4u + (quads * blocks + 3u) / 4u * 4u, quad, pixel, pixels);
    let bias = select(vec4<u32>(0u), vec4<u32>(1u << (STASH_BITS - 1u)), group > vec4<u32>(127u));
    let raised = group & vec4<u32>(127u);
    // 127 stands for a group that held something not finite.
    let scale = select((raised + vec4<u32>(127u)) << vec4<u32>(23u), vec4<u32>(0x7fc00000u), raised == vec4<u32>(127u));
    return vec4<f32>(vec4<i32>(codes) - vec4<i32>(bias)) * (bitcast<f32>(stash[0].x) * bitcast<vec4<f32>>(scale));
}
#endif

#ifdef STASH_MASK
fn stash_slope(quad: u32, pixel: u32, quads: u32, pixels: u32) -> vec4<f32> {
    return vec4<f32>(stash_codes(0u, quad, pixel, pixels));
}
#endif

#ifdef STASH_SIX
fn stash_slope(quad: u32, pixel: u32, quads: u32, pixels: u32) -> vec4<f32> {
    return select(vec4<f32>(), vec4<f32>(1.0), stash_codes(0u, quad, pixel, pixels) == vec4<u32>(1u));
}
#endif
