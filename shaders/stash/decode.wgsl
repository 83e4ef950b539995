// values = what a stash holds.  Consumers decode as they load, with the same functions; this is for those that cannot.
// SLOPES: what comes out is what stands behind a normalisation and a ReLU (1) or ReLU6 (2) of these values, with their slopes, held beside,
// as they were before any code:   values = slope * (scale * value + shift), and of a ReLU6 six where it was above.
//
// Tile: 1024 neighbouring pixels of one quad. Dispatch: [ceil(pixels / 1024), quads] workgroups of 256.
#import common/stash

struct Params {
    quads: u32,
    pixels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> stash: array<vec4<u32>>;
#ifdef SLOPES
#import common/held_slopes
@group(0) @binding(2) var<storage, read_write> normalisation: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> slopes: array<u32>;
const VALUES = 4;
#else
const VALUES = 2;
#endif
#ifdef STASH_TAPS
@group(0) @binding(VALUES) var<storage, read_write> values: array<u32>;
#else
@group(0) @binding(VALUES) var<storage, read_write> values: array<vec4<f32>>;
#endif

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let begin = workgroup.x * 1024u;
    let end = min(begin + 1024u, params.pixels);
    for (var pixel = begin + lane; pixel < end; pixel += 256u) {
        let element = workgroup.y * params.pixels + pixel;
#ifdef STASH_TAPS
        let taps = stash_codes(0u, workgroup.y, pixel, params.pixels) << vec4<u32>(0u, 8u, 16u, 24u);
        values[element] = taps.x | taps.y | taps.z | taps.w;
#else
        var value = stash_load(workgroup.y, pixel, params.quads, params.pixels);
#ifdef SLOPES
        let scaled = fma(value, normalisation[4u * workgroup.y], normalisation[4u * workgroup.y + 1u]);
        value = behind_held_slope(workgroup.y, pixel, params.pixels, scaled);
#endif
        values[element] = value;
#endif
    }
}
