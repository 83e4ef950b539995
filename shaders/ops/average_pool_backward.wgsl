// input_gradient[n, c, y, x] = sum of output_gradient / divisor over the windows that cover (y, x)
// with divisor = kernel^2, or with EXCLUDE_PADDING the number of taps of the window inside the input.
//
// Gathered, so that the order of the sum is fixed.
// Tile: one input quad an invocation, 256 neighbouring pixels. Dispatch: [ceil(input pixels / 256), quads] workgroups of 256.
#import common/window

@group(0) @binding(1) var<storage, read_write> output_gradient: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> input_gradient: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let pixel = workgroup.x * 256u + lane;
    if pixel >= params.input_pixels {
        return;
    }
    let x = pixel % params.input_width;
    let row = pixel / params.input_width;
    let image = row / params.input_height;
    let y = row % params.input_height;
    let rows = outputs_covering(y, params.output_height);
    let columns = outputs_covering(x, params.output_width);
    let plane = workgroup.y * params.output_pixels + image * params.output_height * params.output_width;
    var sum = vec4<f32>(0.0);
    for (var output_y = rows.x; output_y < rows.y; output_y++) {
        for (var output_x = columns.x; output_x < columns.y; output_x++) {
#ifdef EXCLUDE_PADDING
            let inside_y = taps_inside(output_y, params.input_height);
            let inside_x = taps_inside(output_x, params.input_width);
            let divisor = f32((inside_y.y - inside_y.x) * (inside_x.y - inside_x.x));
#else
            let divisor = f32(params.kernel * params.kernel);
#endif
            sum += output_gradient[plane + output_y * params.output_width + output_x] / divisor;
        }
    }
    input_gradient[workgroup.y * params.input_pixels + pixel] = sum;
}
