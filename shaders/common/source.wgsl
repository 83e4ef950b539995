// A forward value as its consumer reads it: activate(scale * source + shift), computed while it is loaded, so that the normalised and
// activated map stands nowhere in memory. Padding channels come out zero; what lies outside a map the caller replaces by zero afterwards.
// Flags as in common/scaling.wgsl; with DERIVATIVE, the source is a gradient and read as it stands.
// STASH: what is read is the compressed form of the map, decoded as common/stash.wgsl says, in files that know of it. SLOPES: the activation is a
// ReLU or ReLU6 whose slope is held beside it (common/held_slopes.wgsl); no flag names it.
//
// The importing file declares the global binding `source` (or with STASH `stash`, with SLOPES also `slopes`), besides those of common/scaling.wgsl.
#import common/scaling
#ifdef STASH
#import common/stash
#ifdef SLOPES
#import common/held_slopes
#endif

// `quads` planes of `pixels` vec4s were encoded.
fn load_stashed(scaling: Scaling, quad: u32, pixel: u32, quads: u32, pixels: u32) -> vec4<f32> {
    let value = scaled(scaling, stash_load(quad, pixel, quads, pixels));
#ifdef SLOPES
    return behind_held_slope(quad, pixel, pixels, value);
#else
    return activate(value);
#endif
}
#else

// `element` is that of a quad whose scaling is given.
fn load_source(scaling: Scaling, element: u32) -> vec4<f32> {
#ifdef DERIVATIVE
    return source[element];
#else
    return activate(scaled(scaling, source[element]));
#endif
}
#endif
