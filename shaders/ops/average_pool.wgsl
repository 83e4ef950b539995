// output[n, c, y, x] = sum over taps of input[n, c, stride * y - padding + tap_y, stride * x - padding + tap_x] / divisor
// with divisor = all taps of the window, or with EXCLUDE_PADDING those inside the input.
//
// The input is read through its normalisation and activation, see common/source.wgsl.
// Tile: one output quad an invocation, 256 neighbouring pixels. Dispatch: [ceil(output pixels / 256), quads] workgroups of 256.
#import common/source
#import common/window

@group(0) @binding(1) var<storage, read_write> source: array<vec4<f32>>;
#ifdef NORMALISE
@group(0) @binding(2) var<storage, read_write> normalisation: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> output: array<vec4<f32>>;
#else
@group(0) @binding(2) var<storage, read_write> output: array<vec4<f32>>;
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
    var sum = vec4<f32>(0.0);
    for (var row = 0u; row < KERNEL_ROWS; row++) {
        let tap_y = clamp(row, rows.x, rows.y - 1u);
        for (var column = 0u; column < KERNEL_COLUMNS; column++) {
            let tap_x = clamp(column, columns.x, columns.y - 1u);
            let value = load_source(scaling, first_column + (first_row + tap_y) * params.input_width + tap_x);
            sum += select(vec4<f32>(0.0), value, tap_y == row && tap_x == column);
        }
    }
    output[workgroup.y * params.output_pixels + pixel] = sum / divisor_of(rows, columns);
}
