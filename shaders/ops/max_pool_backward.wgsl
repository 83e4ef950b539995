// input_gradient[n, c, y, x] = sum of output_gradient over the windows that cover (y, x) and whose maximum stands there
// DERIVATIVE: multiplied with the derivative of the activation behind which the input stood, see common/scaling.wgsl.
//
// Where that is, taps tell as max_pool.wgsl leaves them. Gathered, so that the order of the sum is fixed.
// Tile: one input quad an invocation, 256 neighbouring pixels. Dispatch: [ceil(input pixels / 256), quads] workgroups of 256.
#import common/scaling
#import common/taps
#import common/window

@group(0) @binding(1) var<storage, read_write> taps: array<u32>;
@group(0) @binding(2) var<storage, read_write> output_gradient: array<vec4<f32>>;
#ifdef NORMALISE
@group(0) @binding(3) var<storage, read_write> normalisation: array<vec4<f32>>;
const AFTER_NORMALISATION = 4;
#else
const AFTER_NORMALISATION = 3;
#endif
#ifdef DERIVATIVE
@group(0) @binding(AFTER_NORMALISATION) var<storage, read_write> activated: array<vec4<f32>>;
@group(0) @binding(AFTER_NORMALISATION + 1) var<storage, read_write> input_gradient: array<vec4<f32>>;
#else
@group(0) @binding(AFTER_NORMALISATION) var<storage, read_write> input_gradient: array<vec4<f32>>;
#endif

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let pixel = workgroup.x * 256u + lane;
    if pixel >= params.input_pixels {
        return;
    }
    let place = place_of(pixel, params.input_height, params.input_width);
    let row = place.y + params.padding_rows;
    let column = place.x + params.padding_columns;
    let image = place.image * params.output_height * params.output_width;
    let plane = workgroup.y * params.output_pixels;
    let words = workgroup.y * plane_words(params.output_pixels);
    var sum = vec4<f32>(0.0);
    for (var above = 0u; above < COVER_ROWS; above++) {
        // Wraps where there is no such window, which is then not below the height.
        let output_y = row / STRIDE_ROWS - above;
        let tap_y = row - output_y * STRIDE_ROWS;
        let row_covers = output_y < params.output_height && tap_y < KERNEL_ROWS;
        for (var left = 0u; left < COVER_COLUMNS; left++) {
            let output_x = column / STRIDE_COLUMNS - left;
            let tap_x = column - output_x * STRIDE_COLUMNS;
            let covers = row_covers && output_x < params.output_width && tap_x < KERNEL_COLUMNS;
            let output = select(0u, image + output_y * params.output_width + output_x, covers);
            // No tap equals 256.
            let wanted = select(256u, tap_y * KERNEL_COLUMNS + tap_x, covers);
            let tap = taps_of(taps[words + word_of(output)], output);
            sum += select(vec4<f32>(0.0), output_gradient[plane + output], tap == vec4<u32>(wanted));
        }
    }
    let element = workgroup.y * params.input_pixels + pixel;
#ifdef DERIVATIVE
    sum = before_activation(scaling_of(workgroup.y), element, sum);
#endif
    input_gradient[element] = sum;
}
