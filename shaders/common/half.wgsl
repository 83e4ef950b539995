// Four f16 in two words, as arrays of vec4<f32> are held that a launch holds in halves; no kernel imports it, `halved` puts it behind one.
//
// Rounded to nearest, ties to even, by integers and one exact addition, because devices round differently when they convert. What is too large for f16 becomes
// an infinity, so that it is noticed, and NaN stays NaN.
fn half_load(words: vec2<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
}

fn half_store(value: vec4<f32>) -> vec2<u32> {
    let bits = bitcast<vec4<u32>>(value);
    let magnitude = bits & vec4<u32>(0x7fffffffu);
    // From 2^-14 on: a new bias, the mantissa rounded to 10 bits; a carry moves on to the exponent.
    let odd = (magnitude >> vec4<u32>(13u)) & vec4<u32>(1u);
    let normal = min((magnitude + vec4<u32>(0x0fffu) + odd - vec4<u32>(112u << 23u)) >> vec4<u32>(13u), vec4<u32>(0x7c00u));
    // Below: beside one half, the last bit of an f32 is a step of 2^-24.
    let small = bitcast<vec4<u32>>(bitcast<vec4<f32>>(magnitude) + vec4<f32>(0.5)) - vec4<u32>(0x3f000000u);
    var half = select(normal, small, magnitude < vec4<u32>(113u << 23u));
    half = select(half, vec4<u32>(0x7e00u), magnitude > vec4<u32>(0x7f800000u));
    half |= (bits >> vec4<u32>(16u)) & vec4<u32>(0x8000u);
    return half.xz | (half.yw << vec2<u32>(16u));
}
