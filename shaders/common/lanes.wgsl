// Channel ranges that do not begin on a quad.

// Four consecutive channels that begin `shift` (0 to 3) lanes into `low` and run on into `high`.
fn shift_lanes(low: vec4<f32>, high: vec4<f32>, shift: u32) -> vec4<f32> {
    var result = low;
    if shift == 1u {
        result = vec4<f32>(low.yzw, high.x);
    } else if shift == 2u {
        result = vec4<f32>(low.zw, high.xy);
    } else if shift == 3u {
        result = vec4<f32>(low.w, high.xyz);
    }
    return result;
}

// `value`, the quad that begins with channel `4 * quad`, with zeros from channel `channels` on.
fn clear_padding(value: vec4<f32>, quad: u32, channels: u32) -> vec4<f32> {
    let channel = vec4<u32>(0u, 1u, 2u, 3u) + 4u * quad;
    return select(vec4<f32>(0.0), value, channel < vec4<u32>(channels));
}
