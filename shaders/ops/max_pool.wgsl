// output[n, c, y, x] = max over taps of input[n, c, stride * y - padding + tap_y, stride * x - padding + tap_x]
// TAP_BITS: taps[quad] tells, so many bits a channel, tap_y * KERNEL_COLUMNS + tap_x of the first maximum in scan order, see
// common/taps.wgsl.
//
// A tap in the padding reads the nearest one inside instead, which changes neither the maximum nor which tap is first.
// The input is read through its normalisation and activation, see common/source.wgsl.
// Tile: one output quad an invocation, 256 neighbouring pixels; with TAP_BITS as many as a word tells of, 64 apart.
// Dispatch: [ceil(output pixels / (256 * pixels of a word)), quads] workgroups of 256.
#import common/source
#import common/window
#ifdef TAP_BITS
#import common/taps
#endif

@group(0) @binding(1) var<storage, read_write> source: array<vec4<f32>>;
#ifdef NORMALISE
@group(0) @binding(2) var<storage, read_write> normalisation: array<vec4<f32>>;
const AFTER_INPUTS = 3;
#else
const AFTER_INPUTS = 2;
#endif
@group(0) @binding(AFTER_INPUTS) var<storage, read_write> output: array<vec4<f32>>;
#ifdef TAP_BITS
@group(0) @binding(AFTER_INPUTS + 1) var<storage, read_write> taps: array<u32>;
#endif

struct Maximum {
    value: vec4<f32>,
    tap: vec4<u32>,
}

fn maximum(quad: u32, pixel: u32) -> Maximum {
    let place = place_of(pixel, params.output_height, params.output_width);
    let rows = rows_inside(place.y);
    let columns = columns_inside(place.x);
    let first_row = place.image * params.input_height + place.y * STRIDE_ROWS - params.padding_rows;
    let first_column = quad * params.input_pixels + place.x * STRIDE_COLUMNS - params.padding_columns;
    let scaling = scaling_of(quad);
    var best = Maximum(vec4<f32>(-3.4028234e38), vec4<u32>(rows.x * KERNEL_COLUMNS + columns.x));
    for (var row = 0u; row < KERNEL_ROWS; row++) {
        let tap_y = clamp(row, rows.x, rows.y - 1u);
        for (var column = 0u; column < KERNEL_COLUMNS; column++) {
            let tap_x = clamp(column, columns.x, columns.y - 1u);
            let value = load_source(scaling, first_column + (first_row + tap_y) * params.input_width + tap_x);
            let better = value > best.value;
            best.value = select(best.value, value, better);
            best.tap = select(best.tap, vec4<u32>(tap_y * KERNEL_COLUMNS + tap_x), better);
        }
    }
    return best;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
#ifdef TAP_BITS
    let first = (workgroup.x * 4u + lane / 64u) * 64u * WORD_PIXELS + lane % 64u;
    var word = 0u;
    for (var part = 0u; part < WORD_PIXELS; part++) {
        let pixel = first + 64u * part;
        if pixel < params.output_pixels {
            let best = maximum(workgroup.y, pixel);
            output[workgroup.y * params.output_pixels + pixel] = best.value;
            let channels = best.tap << (vec4<u32>(0u, 1u, 2u, 3u) * TAP_BITS);
            word |= (channels.x | channels.y | channels.z | channels.w) << (part * 4u * TAP_BITS);
        }
    }
    if first < params.output_pixels {
        taps[workgroup.y * plane_words(params.output_pixels) + word_of(first)] = word;
    }
#else
    let pixel = workgroup.x * 256u + lane;
    if pixel < params.output_pixels {
        output[workgroup.y * params.output_pixels + pixel] = maximum(workgroup.y, pixel).value;
    }
#endif
}
