// A forward value as its consumer reads it: activate(scale * source + shift), computed while it is loaded, so that the normalised and
// activated map stands nowhere in memory. Padding channels come out zero; what lies outside a map the caller replaces by zero afterwards.
// Flags as in common/scaling.wgsl; with DERIVATIVE, the source is a gradient and read as it stands.
// STASH: what is read is the compressed form of the map, decoded as common/stash.wgsl says, in files that know of it.
//
// The importing file declares the global binding `source` (or with STASH `stash`), besides those of common/scaling.wgsl.
#import common/scaling
#ifdef STASH
#import common/stash

// `quads` planes of `pixels` vec4s were encoded.
fn load_stashed(scaling: Scaling, quad: u32, pixel: u32, quads: u32, pixels: u32) -> vec4<f32> {
    return activate(scaled(scaling, stash_load(quad, pixel, quads, pixels)));
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
