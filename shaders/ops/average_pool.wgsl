// output[n, c, y, x] = sum over taps of input[n, c, stride * y - padding + tap_y, stride * x - padding + tap_x] / divisor
// with divisor = kernel^2, or with EXCLUDE_PADDING the number of taps inside the input.
//
// Tile: one output quad an invocation, 256 neighbouring pixels. Dispatch: [ceil(output pixels / 256), quads] workgroups of 256.
#import common/window

@group(0) @binding(1) var<storage, read_write> input: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> output: array<vec4<f32>>;

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
    var sum = vec4<f32>(0.0);
    for (var tap_y = rows.x; tap_y < rows.y; tap_y++) {
        for (var tap_x = columns.x; tap_x < columns.y; tap_x++) {
            sum += input[plane + (first_row + tap_y) * params.input_width + first_column + tap_x];
        }
    }
#ifdef EXCLUDE_PADDING
    let divisor = f32((rows.y - rows.x) * (columns.y - columns.x));
#else
    let divisor = f32(params.kernel * params.kernel);
#endif
    output[workgroup.y * params.output_pixels + pixel] = sum / divisor;
}
