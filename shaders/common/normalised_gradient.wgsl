// What the backward pass of a normalisation reads at an element: the vec4 at `pixel` of plane `quad` of `quads` planes of `pixels` vec4s.
// STASH: the value is decoded as it is loaded (common/stash.wgsl), from the importing shader's `stash`; else it is read from `input`.
// SLOPES: the slope of the activation behind is one that was held apart (common/held_slopes.wgsl); else it is that of `normalised`.
#import common/activation
#ifdef STASH
#import common/stash
#endif
#ifdef SLOPES
#import common/held_slopes
#endif

fn value_at(quad: u32, pixel: u32, quads: u32, pixels: u32) -> vec4<f32> {
#ifdef STASH
    return stash_load(quad, pixel, quads, pixels);
#else
    return input[quad * pixels + pixel];
#endif
}

fn slope_at(quad: u32, pixel: u32, pixels: u32, normalised: vec4<f32>) -> vec4<f32> {
#ifdef SLOPES
    return held_slope(quad, pixel, pixels);
#else
    return activate_derivative(normalised);
#endif
}
