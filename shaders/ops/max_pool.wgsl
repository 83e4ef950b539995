// output[n, c, y, x] = max over taps of input[n, c, stride * y - padding + tap_y, stride * x - padding + tap_x]
// TAPS: taps[quad, pixel] holds, a byte a channel, tap_y * kernel + tap_x of the first maximum in scan order.
//
// Tile: one output quad an invocation, 256 neighbouring pixels. Dispatch: [ceil(output pixels / 256), quads] workgroups of 256.
#import common/window

@group(0) @binding(1) var<storage, read_write> input: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> output: array<vec4<f32>>;
#ifdef TAPS
@group(0) @binding(3) var<storage, read_write> taps: array<u32>;
#endif

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let pixel = workgroup.x * 256u + lane;
    if pixel >= params.output_pixels {
        return;
    }
    let x = pixel % params.output_width;
    let row = pixel / params.output_width;
    let image = row / params.output_height;
    let y = row % params.output_height;
    let rows = taps_inside(y, params.input_height);
    let columns = taps_inside(x, params.input_width);
    let plane = workgroup.y * params.input_pixels;
    let first_row = image * params.input_height + y * params.stride - params.padding;
    let first_column = x * params.stride - params.padding;
    var best = vec4<f32>(-3.4028234e38);
    var best_tap = vec4<u32>(rows.x * params.kernel + columns.x);
    for (var tap_y = rows.x; tap_y < rows.y; tap_y++) {
        for (var tap_x = columns.x; tap_x < columns.y; tap_x++) {
            let value = input[plane + (first_row + tap_y) * params.input_width + first_column + tap_x];
            let better = value > best;
            best = select(best, value, better);
            best_tap = select(best_tap, vec4<u32>(tap_y * params.kernel + tap_x), better);
        }
    }
    let element = workgroup.y * params.output_pixels + pixel;
    output[element] = best;
#ifdef TAPS
    taps[element] = best_tap.x | (best_tap.y << 8u) | (best_tap.z << 16u) | (best_tap.w << 24u);
#endif
}
