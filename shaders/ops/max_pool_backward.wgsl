// input_gradient[n, c, y, x] = sum of output_gradient over the windows that cover (y, x) and whose maximum stands there
//
// Gathered, so that the order of the sum is fixed.
// Tile: one input quad an invocation, 256 neighbouring pixels. Dispatch: [ceil(input pixels / 256), quads] workgroups of 256.
#import common/window

@group(0) @binding(1) var<storage, read_write> taps: array<u32>;
@group(0) @binding(2) var<storage, read_write> output_gradient: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> input_gradient: array<vec4<f32>>;

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
            let element = plane + output_y * params.output_width + output_x;
            let tap_y = y + params.padding - output_y * params.stride;
            let tap_x = x + params.padding - output_x * params.stride;
            let packed = vec4<u32>(taps[element]) >> vec4<u32>(0u, 8u, 16u, 24u);
            let here = (packed & vec4<u32>(255u)) == vec4<u32>(tap_y * params.kernel + tap_x);
            sum += select(vec4<f32>(0.0), output_gradient[element], here);
        }
    }
    input_gradient[workgroup.y * params.input_pixels + pixel] = sum;
}
