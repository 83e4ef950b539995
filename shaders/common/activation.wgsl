// Activations on quads, chosen by one flag (none: identity):
// ACTIVATION_RELU, ACTIVATION_RELU6, ACTIVATION_HARD_SWISH, ACTIVATION_SILU, ACTIVATION_GELU.
// All map 0 to 0, so padding channels stay zero.

#ifdef ACTIVATION_SILU
fn sigmoid(value: vec4<f32>) -> vec4<f32> {
    // Clamped so that the exponential stays finite.
    return 1.0 / (1.0 + exp(-max(value, vec4<f32>(-80.0))));
}
#endif

#ifdef ACTIVATION_GELU
// The normal distribution function, by erfc(z) = exp(-z^2) * t * polynomial(t) with t = 1 / (1 + 0.4 z), z = |value| / sqrt(2).
// The polynomial interpolates erfc(z) * exp(z^2) / t at Chebyshev nodes of 0 <= z <= 10, relative error below 2e-8.
fn normal_distribution(value: vec4<f32>) -> vec4<f32> {
    let z = min(abs(value) * 0.70710678, vec4<f32>(10.0));
    let t = 1.0 / (1.0 + 0.4 * z);
    var polynomial = vec4<f32>(-0.0335011259);
    polynomial = polynomial * t + 0.21878536;
    polynomial = polynomial * t - 0.54650259;
    polynomial = polynomial * t + 0.609342158;
    polynomial = polynomial * t - 0.334311873;
    polynomial = polynomial * t + 0.297973186;
    polynomial = polynomial * t + 0.121059984;
    polynomial = polynomial * t + 0.216689393;
    polynomial = polynomial * t + 0.224748671;
    polynomial = polynomial * t + 0.225716859;
    let tail = 0.5 * polynomial * t * exp(-z * z);
    return select(tail, 1.0 - tail, value > vec4<f32>(0.0));
}
#endif

// `max` and `min` may swallow a NaN, which would hide where a network broke, and a driver may make them of `select(value, 0.0, value < 0.0)`.
// So bits are compared: as signed integers, those of -0 to -infinity are below all others, and those of 6 to infinity below those of positive NaNs.
fn activate(value: vec4<f32>) -> vec4<f32> {
    var result = value;
#ifdef ACTIVATION_RELU
    result = select(value, vec4<f32>(), bitcast<vec4<i32>>(value) <= vec4<i32>(-0x800000));
#endif
#ifdef ACTIVATION_RELU6
    let bits = bitcast<vec4<i32>>(value);
    result = select(value, vec4<f32>(), bits <= vec4<i32>(-0x800000));
    result = select(result, vec4<f32>(6.0), (bits > vec4<i32>(0x40c00000)) & (bits <= vec4<i32>(0x7f800000)));
#endif
#ifdef ACTIVATION_HARD_SWISH
    result = value * clamp(value + 3.0, vec4<f32>(0.0), vec4<f32>(6.0)) * (1.0 / 6.0);
#endif
#ifdef ACTIVATION_SILU
    result = value * sigmoid(value);
#endif
#ifdef ACTIVATION_GELU
    result = value * normal_distribution(value);
#endif
    return result;
}

// The derivative of `activate` at `value`; for ReLU and ReLU6 `value` may also be the output of `activate`.
fn activate_derivative(value: vec4<f32>) -> vec4<f32> {
    var result = vec4<f32>(1.0);
#ifdef ACTIVATION_RELU
    result = select(vec4<f32>(0.0), vec4<f32>(1.0), value > vec4<f32>(0.0));
#endif
#ifdef ACTIVATION_RELU6
    result = select(vec4<f32>(0.0), vec4<f32>(1.0), (value > vec4<f32>(0.0)) & (value < vec4<f32>(6.0)));
#endif
#ifdef ACTIVATION_HARD_SWISH
    let middle = select(vec4<f32>(1.0), value * (1.0 / 3.0) + 0.5, value < vec4<f32>(3.0));
    result = select(vec4<f32>(0.0), middle, value > vec4<f32>(-3.0));
#endif
#ifdef ACTIVATION_SILU
    let gate = sigmoid(value);
    result = gate * (1.0 + value * (1.0 - gate));
#endif
#ifdef ACTIVATION_GELU
    let bounded = clamp(value, vec4<f32>(-14.0), vec4<f32>(14.0));
    result = normal_distribution(value) + bounded * 0.39894228 * exp(-0.5 * bounded * bounded);
#endif
    return result;
}
