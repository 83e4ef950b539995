// Slopes of an activation that are held beside compressed values, as stash/encode_mask.wgsl writes them.
//
// The importing shader declares `slopes: array<u32>` and gives SLOPES, the bits a value has: 1 (a ReLU: whether the value is above zero) or
// 2 (a ReLU6: 0 below, 1 inside, 2 above). One element is the vec4 at `pixel` of plane `quad` of planes of `pixels` vec4s.

const SLOPE_PIXELS: u32 = 8u / SLOPES;

fn slope_codes(quad: u32, pixel: u32, pixels: u32) -> vec4<u32> {
    let words = (pixels + SLOPE_PIXELS - 1u) / SLOPE_PIXELS;
    let word = slopes[quad * words + pixel / SLOPE_PIXELS] >> (pixel % SLOPE_PIXELS * 4u * SLOPES);
    return (vec4<u32>(word) >> (vec4<u32>(0u, 1u, 2u, 3u) * SLOPES)) & vec4<u32>((1u << SLOPES) - 1u);
}

// 1 where the gradient passes, else 0.
fn held_slope(quad: u32, pixel: u32, pixels: u32) -> vec4<f32> {
    return select(vec4<f32>(), vec4<f32>(1.0), slope_codes(quad, pixel, pixels) == vec4<u32>(1u));
}

// What stands behind the activation of a value, with the slope that it had before any code; of a ReLU6 six where it was above.
fn behind_held_slope(quad: u32, pixel: u32, pixels: u32, value: vec4<f32>) -> vec4<f32> {
    if SLOPES == 1u {
        return value * held_slope(quad, pixel, pixels);
    }
    let codes = slope_codes(quad, pixel, pixels);
    let inside = clamp(value, vec4<f32>(), vec4<f32>(6.0));
    return select(select(vec4<f32>(), inside, codes == vec4<u32>(1u)), vec4<f32>(6.0), codes == vec4<u32>(2u));
}
