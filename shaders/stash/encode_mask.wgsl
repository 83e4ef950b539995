// stash = where the gradient of an activation passes, from its input or output.
//   STASH_MASK: a bit a value, value > 0, for ReLU.
//   STASH_SIX: two bits a value, 0 below (or at) zero, 1 inside, 2 at (or above) six, for ReLU6.
//   NORMALISE (of these two): the value as a reader behind a normalisation has it, see common/scaling.wgsl.
//   STASH_TAPS: the tap of each maximum of a pooling, STASH_BITS bits instead of the byte it is given in.
//
// Tile: a word, that is STASH_PIXELS neighbouring pixels of one quad, an invocation. Dispatch: [ceil(words / 256), quads] workgroups of 256.
#import common/scaling

struct Params {
    pixels: u32,
    // Words of a plane, and of the tensor.
    words: u32,
    all_words: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
#ifdef STASH_TAPS
@group(0) @binding(1) var<storage, read_write> values: array<u32>;
#else
@group(0) @binding(1) var<storage, read_write> values: array<vec4<f32>>;
#endif
#ifdef NORMALISE
@group(0) @binding(2) var<storage, read_write> normalisation: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> stash: array<u32>;
#else
@group(0) @binding(2) var<storage, read_write> stash: array<u32>;
#endif

const STASH_PIXELS: u32 = 8u / STASH_BITS;

fn codes_of(scaling: Scaling, element: u32) -> vec4<u32> {
#ifdef STASH_TAPS
    return (vec4<u32>(values[element]) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>((1u << STASH_BITS) - 1u);
#endif
#ifdef STASH_MASK
    return select(vec4<u32>(0u), vec4<u32>(1u), scaled(scaling, values[element]) > vec4<f32>());
#endif
#ifdef STASH_SIX
    let value = scaled(scaling, values[element]);
    let above = select(vec4<u32>(0u), vec4<u32>(1u), value > vec4<f32>());
    return above + select(vec4<u32>(0u), vec4<u32>(1u), value >= vec4<f32>(6.0));
#endif
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = workgroup.x * 256u + lane;
    if at >= params.words {
        return;
    }
    let plane = workgroup.y * params.pixels;
    let begin = at * STASH_PIXELS;
    let end = min(begin + STASH_PIXELS, params.pixels);
    let scaling = scaling_of(workgroup.y);
    var word = 0u;
    for (var pixel = begin; pixel < end; pixel++) {
        let codes = codes_of(scaling, plane + pixel) << (vec4<u32>(0u, 1u, 2u, 3u) * STASH_BITS);
        word |= (codes.x | codes.y | codes.z | codes.w) << ((pixel - begin) * 4u * STASH_BITS);
    }
    stash[workgroup.y * params.words + at] = word;
    if workgroup.y * params.words + at == params.all_words - 1u {
        for (var tail = params.all_words; tail % 4u != 0u; tail++) {
            stash[tail] = 0u;
        }
    }
}
