// What a normalisation and an activation do to a value: activate(scale * value + shift).
// NORMALISE: `normalisation` holds four vectors a quad: scale, shift, mean and inverse deviation (see ops/batch_norm_statistics_finish.wgsl).
// ACTIVATION_...: as in common/activation.wgsl.
// DERIVATIVE: for a kernel that writes a gradient of what is so made; normalisation and activation are those of `activated`, the value
// before both (or, for ReLU and ReLU6, behind).
//
// The importing file declares the global bindings `normalisation` and `activated` under these flags.
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

fn scaled(scaling: Scaling, value: vec4<f32>) -> vec4<f32> {
#ifdef NORMALISE
    return fma(value, scaling.scale, scaling.shift);
#else
    return value;
#endif
}

#ifdef DERIVATIVE
// What a gradient behind the activation is in front of it. `element` is that of a quad whose scaling is given.
fn before_activation(scaling: Scaling, element: u32, gradient: vec4<f32>) -> vec4<f32> {
    return gradient * activate_derivative(scaled(scaling, activated[element]));
}
#endif
