// output[n, c, y, x] = max over taps of input[n, c, stride * y - padding + tap_y, stride * x - padding + tap_x]
// TAPS: taps[quad, pixel] holds, a byte a channel, tap_y * KERNEL_COLUMNS + tap_x of the first maximum in scan order.
//
// A tap in the padding reads the nearest one inside instead, which changes neither the maximum nor which tap is first.
// The input is read through its normalisation and activation, see common/source.wgsl.
// Tile: one output quad an invocation, 256 neighbouring pixels. Dispatch: [ceil(output pixels / 256), quads] workgroups of 256.
#import common/source
#import common/window

@group(0) @binding(1) var<storage, read_write> source: array<vec4<f32>>;
#ifdef NORMALISE
@group(0) @binding(2) var<storage, read_write> normalisation: array<vec4<f32>>;
const AFTER_INPUTS = 3;
#else
const AFTER_INPUTS = 2;
#endif
@group(0) @binding(AFTER_INPUTS) var<storage, read_write> output: array<vec4<f32>>;
#ifdef TAPS
@group(0) @binding(AFTER_INPUTS + 1) var<storage, read_write> taps: array<u32>;
#endif

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let pixel = workgroup.x * 256u + lane;
    if pixel >= params.output_pixels {
        return;
    }
    let place = place_of(pixel, params.output_height, params.output_width);
    let rows = rows_inside(place.y);
    let columns = columns_inside(place.x);
    let first_row = place.image * params.input_height + place.y * STRIDE_ROWS - params.padding_rows;
    let first_column = workgroup.y * params.input_pixels + place.x * STRIDE_COLUMNS - params.padding_columns;
    let scaling = scaling_of(workgroup.y);
    var best = vec4<f32>(-3.4028234e38);
    var best_tap = vec4<u32>(rows.x * KERNEL_COLUMNS + columns.x);
    for (var row = 0u; row < KERNEL_ROWS; row++) {
        let tap_y = clamp(row, rows.x, rows.y - 1u);
        for (var column = 0u; column < KERNEL_COLUMNS; column++) {
            let tap_x = clamp(column, columns.x, columns.y - 1u);
            let value = load_source(scaling, first_column + (first_row + tap_y) * params.input_width + tap_x);
            let better = value > best;
            best = select(best, value, better);
            best_tap = select(best_tap, vec4<u32>(tap_y * KERNEL_COLUMNS + tap_x), better);
        }
    }
    let element = workgroup.y * params.output_pixels + pixel;
    output[element] = best;
#ifdef TAPS
    taps[element] = best_tap.x | (best_tap.y << 8u) | (best_tap.z << 16u) | (best_tap.w << 24u);
#endif
}
