// What an encoder of groups needs, in integers wherever a float operation might round in more than one way: the host's twin computes
// the same bits. The float operations left are single subtractions and multiplications, which are rounded correctly everywhere.
//
// Magnitudes below 2^-100 count as zero, those from 2^100 on like infinities and NaN: a group that holds one decodes to NaN.
// A producer that has a group in its hands does what encode_grouped.wgsl does: `group_key` of every value, their minimum and maximum,
// `group_header` and `group_scale` once, `group_codes` of every value with words of `stash_random`.
//
// Defines: STASH_LINEAR, STASH_RECTIFIED or STASH_SIGNED, and STASH_LEVELS, the steps between the lowest and the highest code.
#import common/random

const STASH_SIGN: vec4<u32> = vec4<u32>(0x80000000u);
const STASH_HIGH: vec4<u32> = vec4<u32>(0xffff0000u);
// Keys of the lowest and the highest values that a group may hold.
const STASH_LOWEST: vec4<u32> = vec4<u32>(0x0e7fffffu);
const STASH_HIGHEST: vec4<u32> = vec4<u32>(0xf1800000u);
const STASH_QUIET_NAN: vec4<u32> = vec4<u32>(0x7fc00000u);
// Slightly above 1 / STASH_LEVELS, so that no rounding leaves the highest value above the highest code.
const STASH_SHARE: f32 = 1.0f / f32(STASH_LEVELS) * 1.0000002f;

fn stash_flush(value: vec4<f32>) -> vec4<u32> {
    let bits = bitcast<vec4<u32>>(value);
    return select(bits, vec4<u32>(0u), (bits & ~STASH_SIGN) < vec4<u32>(0x0d800000u));
}

// Four words of random bits for two neighbouring pixels of a plane: the first has the low halves, the second the high ones. `pair` counts
// such pairs in the tensor, every plane beginning with a new one.
fn stash_random(pair: u32, tensor: u32, seed: u32) -> vec4<u32> {
    return random_words(vec4<u32>(pair, tensor, seed, 1u));
}

// Integers in the order of the values they stand for.
fn group_key(value: vec4<f32>) -> vec4<u32> {
    let bits = stash_flush(value);
    return select(bits | STASH_SIGN, ~bits, bits >= STASH_SIGN);
}

fn key_bits(key: vec4<u32>) -> vec4<u32> {
    return select(~key, key & ~STASH_SIGN, key >= STASH_SIGN);
}

// Which values the minimum and the maximum of a group are taken over.
fn group_counts(value: vec4<f32>) -> vec4<bool> {
#ifdef STASH_RECTIFIED
    let strange = (bitcast<vec4<u32>>(value) & vec4<u32>(0x7f800000u)) == vec4<u32>(0x7f800000u);
    return (value > vec4<f32>()) | strange;
#else
    return vec4<bool>(true);
#endif
}

// The step for a range of `range`, rounded up to 16 bits; 0 below 2^-90.
fn group_step(range: vec4<f32>) -> vec4<u32> {
    let step = (bitcast<vec4<u32>>(range * STASH_SHARE) + vec4<u32>(0xffffu)) & STASH_HIGH;
    return select(step, vec4<u32>(0u), bitcast<vec4<u32>>(range) < vec4<u32>(0x12800000u));
}

// The header of a group from the least and the greatest key.
fn group_header(low: vec4<u32>, high: vec4<u32>) -> vec4<u32> {
    let strange = (low < STASH_LOWEST) | (high > STASH_HIGHEST);
#ifdef STASH_SIGNED
    let above = group_step(bitcast<vec4<f32>>(key_bits(max(high, STASH_SIGN))));
    let below = group_step(bitcast<vec4<f32>>(key_bits(min(low, STASH_SIGN)) & ~STASH_SIGN));
    return select(above | (below >> vec4<u32>(16u)), vec4<u32>(0x7fc07fc0u), strange);
#else
    let empty = high < low;
    let lowest = key_bits(low);
    // Rounded down: cut off above zero, away from zero below.
    let minimum = (lowest + select(vec4<u32>(0u), vec4<u32>(0xffffu), lowest >= STASH_SIGN)) & STASH_HIGH;
    let range = bitcast<vec4<f32>>(key_bits(high)) - bitcast<vec4<f32>>(minimum);
    let header = minimum | (group_step(range) >> vec4<u32>(16u));
    return select(select(header, vec4<u32>(0u), empty), STASH_QUIET_NAN, strange & !empty);
#endif
}

// 65536 / step for a step of 8 significant bits, its mantissa cut off after 24 bits; 0 for a step of 0 or NaN.
fn group_inverse(step: vec4<u32>) -> vec4<f32> {
    let quotient = vec4<u32>(0x80000000u) / (((step >> vec4<u32>(16u)) & vec4<u32>(127u)) | vec4<u32>(128u));
    let exponent = vec4<u32>(246u) - min(step >> vec4<u32>(23u), vec4<u32>(245u));
    let inverse = vec4<f32>(quotient) * bitcast<vec4<f32>>(exponent << vec4<u32>(23u));
    return select(inverse, vec4<f32>(), (step == vec4<u32>(0u)) | (step >= vec4<u32>(0x7f800000u)));
}

// floor(distance / step + random / 65536), at most the highest code. Signed on the way, because few devices convert to unsigned integers.
fn stochastic(distance: vec4<f32>, inverse: vec4<f32>, random: vec4<u32>) -> vec4<u32> {
    let parts = bitcast<vec4<u32>>(vec4<i32>(max(distance * inverse, vec4<f32>())));
    return min((parts + random) >> vec4<u32>(16u), vec4<u32>(STASH_LEVELS));
}

// What a header comes to for the codes of its group: of a signed code the inverses of the steps above and below zero, else the minimum and
// the inverse of the step. To be asked for once a group: an integer division is slow on every device.
struct GroupScale {
    high: vec4<f32>,
    low: vec4<f32>,
}

fn group_scale(header: vec4<u32>) -> GroupScale {
    let high = header & STASH_HIGH;
    let low = group_inverse(header << vec4<u32>(16u));
#ifdef STASH_SIGNED
    return GroupScale(group_inverse(high), low);
#else
    return GroupScale(bitcast<vec4<f32>>(high), low);
#endif
}

fn group_codes(value: vec4<f32>, scale: GroupScale, random: vec4<u32>) -> vec4<u32> {
    let flushed = stash_flush(value);
#ifdef STASH_SIGNED
    let above = value > vec4<f32>();
    let magnitude = stochastic(bitcast<vec4<f32>>(flushed & ~STASH_SIGN), select(scale.low, scale.high, above), random);
    return magnitude | select(vec4<u32>(0u), vec4<u32>(8u), above);
#else
    let code = stochastic(max(bitcast<vec4<f32>>(flushed) - scale.high, vec4<f32>()), scale.low, random);
#ifdef STASH_RECTIFIED
    return select(vec4<u32>(0u), code + vec4<u32>(1u), value > vec4<f32>());
#else
    return code;
#endif
#endif
}
