// stash = values as f16, rounded to nearest, ties to even: two elements a vec4.  By integers, because devices round differently when they
// convert (Mesa's software device cuts off), and so that no value but zero becomes zero and no finite one infinite:
// the slope of a ReLU can be told from what is held. NaN and infinities stay what they are.
//
// Tile: two neighbouring elements an invocation. Dispatch: [ceil(count / 512)] workgroups of 256, folded.
#import common/grid

struct Params {
    // Quads of all planes.
    count: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> values: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> stash: array<vec4<u32>>;

fn half_bits(value: vec4<f32>) -> vec4<u32> {
    let bits = bitcast<vec4<u32>>(value);
    let magnitude = bits & vec4<u32>(0x7fffffffu);
    let exponent = magnitude >> vec4<u32>(23u);
    // From 2^-14 on: a new bias, the mantissa rounded to 10 bits; a carry moves on to the exponent, and ends at the largest finite.
    let odd = (magnitude >> vec4<u32>(13u)) & vec4<u32>(1u);
    let normal = min((magnitude + vec4<u32>(0x0fffu) + odd - vec4<u32>(112u << 23u)) >> vec4<u32>(13u), vec4<u32>(0x7bffu));
    // Below: steps of 2^-24, one at least unless it is zero.
    let mantissa = (magnitude & vec4<u32>(0x7fffffu)) | vec4<u32>(0x800000u);
    let shift = vec4<u32>(126u) - clamp(exponent, vec4<u32>(96u), vec4<u32>(112u));
    let cut = mantissa >> shift;
    let half = vec4<u32>(1u) << (shift - vec4<u32>(1u));
    let rest = mantissa & ((vec4<u32>(1u) << shift) - vec4<u32>(1u));
    let up = (rest > half) | ((rest == half) & ((cut & vec4<u32>(1u)) == vec4<u32>(1u)));
    let small = max(cut + select(vec4<u32>(0u), vec4<u32>(1u), up), vec4<u32>(1u));
    var result = select(normal, small, exponent < vec4<u32>(113u));
    result = select(result, vec4<u32>(0u), magnitude == vec4<u32>(0u));
    result = select(result, vec4<u32>(0x7c00u), magnitude == vec4<u32>(0x7f800000u));
    result = select(result, vec4<u32>(0x7e00u), magnitude > vec4<u32>(0x7f800000u));
    return result | ((bits >> vec4<u32>(16u)) & vec4<u32>(0x8000u));
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let pair = flat_workgroup(workgroup, workgroups) * 256u + lane;
    let first = pair * 2u;
    if first >= params.count {
        return;
    }
    let one = half_bits(values[first]);
    // The last pair may be one element; its other half is zero.
    let last = params.count - 1u;
    let two = select(vec4<u32>(0u), half_bits(values[min(first + 1u, last)]), vec4<bool>(first < last));
    stash[pair] = vec4<u32>(one.xz | (one.yw << vec2<u32>(16u)), two.xz | (two.yw << vec2<u32>(16u)));
}
