// Tests for NaN and infinities on the bits (exponent all ones): compilers may assume that neither exists and drop comparisons.

fn is_not_finite(value: f32) -> bool {
    return (bitcast<u32>(value) & 0x7f800000u) == 0x7f800000u;
}

fn are_not_finite(values: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(values) & vec4(0x7f800000u)) == vec4(0x7f800000u);
}
