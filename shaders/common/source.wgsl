// A forward value as its consumer reads it: activate(scale * source + shift), computed while it is loaded, so that the normalised and
// activated map stands nowhere in memory. Padding channels come out zero; what lies outside a map the caller replaces by zero afterwards.
// NORMALISE: `normalisation` holds four vectors a quad: scale, shift, mean and inverse deviation (see ops/batch_norm_statistics_finish.wgsl).
// ACTIVATION_...: as in common/activation.wgsl.
//
// The importing file declares the global bindings `source` and, with NORMALISE, `normalisation`.
#import common/activation

struct Scaling {
    scale: vec4<f32>,
    shift: vec4<f32>,
}

// To be asked for once a quad, outside of the loop over its pixels.
fn scaling_of(quad: u32) -> Scaling {
    var scaling = Scaling();
#ifdef NORMALISE
    scaling.scale = normalisation[4u * quad];
    scaling.shift = normalisation[4u * quad + 1u];
#endif
    return scaling;
}

fn scaled_source(scaling: Scaling, element: u32) -> vec4<f32> {
#ifdef NORMALISE
    return fma(source[element], scaling.scale, scaling.shift);
#else
    return source[element];
#endif
}

// `element` is that of a quad whose scaling is given.
fn load_source(scaling: Scaling, element: u32) -> vec4<f32> {
    return activate(scaled_source(scaling, element));
}

// The derivative of the activation there.
fn source_derivative(scaling: Scaling, element: u32) -> vec4<f32> {
    return activate_derivative(scaled_source(scaling, element));
}
