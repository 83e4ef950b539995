// output[c, p] = bias[c] + sum over taps t:  weight[c, t] * input[c, p * STRIDE + t - PADDING]
//
// Tile: an invocation walks down a strip of output pixels, TILE of them side by side and `rows` one below the other. It holds the rows of the
// input that a pixel meets, read through their normalisation and activation (common/source.wgsl), and loads STRIDE_Y more at each step, so
// that the input is read once (but for the edges of a strip). The LANES invocations of a workgroup take strips of one quad in turn.
// Dispatch: [quads * splits] workgroups of LANES, folded.
// WINDOW = (TILE - 1) * STRIDE_X + KERNEL_X input pixels of a row; KEPT = max(KERNEL_Y - STRIDE_Y, 0) rows are kept from one step to the next;
// TAPS = KERNEL_Y * KERNEL_X.
// MOMENTS: the statistics of the output are taken as well, see common/group_moments.wgsl.
#import common/grid
#import common/source
#import common/strip

struct Params {
    groups: u32,
    quads: u32,
    // Strips: of the whole batch, of one share (a multiple of LANES), side by side, and one below the other in an image.
    strips: u32,
    strips_per_split: u32,
    strips_per_row: u32,
    bands: u32,
    // Pixels of a strip, one below the other.
    rows: u32,
    first_y: u32,
    first_x: u32,
    output_height: u32,
    output_width: u32,
    output_plane: u32,
    input_height: u32,
    input_width: u32,
    input_plane: u32,
    padding_y: u32,
    padding_x: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> source: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> weight: array<vec4<f32>>;
#ifdef BIAS
@group(0) @binding(3) var<storage, read_write> bias: array<vec4<f32>>;
const AFTER_BIAS = 4;
#else
const AFTER_BIAS = 3;
#endif
#ifdef NORMALISE
@group(0) @binding(AFTER_BIAS) var<storage, read_write> normalisation: array<vec4<f32>>;
const AFTER_NORMALISATION = AFTER_BIAS + 1;
#else
const AFTER_NORMALISATION = AFTER_BIAS;
#endif
@group(0) @binding(AFTER_NORMALISATION) var<storage, read_write> output: array<vec4<f32>>;
#ifdef MOMENTS
@group(0) @binding(AFTER_NORMALISATION + 1) var<storage, read_write> moments: array<vec4<f32>>;
const QUADS: u32 = 1u;
#import common/group_moments
#endif

// Zero outside of the map.
fn load_input(scaling: Scaling, base: u32, y: u32, x: u32, live: bool) -> vec4<f32> {
    let inside = live && y < params.input_height && x < params.input_width;
    return select(vec4<f32>(), load_source(scaling, base + select(0u, y * params.input_width + x, inside)), inside);
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = flat_workgroup(workgroup, workgroups);
    let group_used = min(group, params.groups - 1u);
    let split = group_used / params.quads;
    let quad = group_used - split * params.quads;
    let scaling = scaling_of(quad);
    var weights: array<vec4<f32>, TAPS>;
#for tap in 0..TAPS
    weights[{tap}] = weight[quad * TAPS + {tap}u];
#endfor
#ifdef BIAS
    let start = bias[quad];
#else
    let start = vec4<f32>();
#endif
#ifdef MOMENTS
    var own = Moments();
#endif

    for (var done = 0u; done < params.strips_per_split; done += LANES) {
        let strip = strip_at(split * params.strips_per_split + done + lane);
        let live = strip.live && group < params.groups;
        let input_base = quad * params.input_plane + strip.image * params.input_height * params.input_width;
        let output_base = quad * params.output_plane + strip.image * params.output_height * params.output_width;
        let input_x = strip.x * STRIDE_X - params.padding_x;

        var window: array<vec4<f32>, KERNEL_Y * WINDOW>;
#for row in 0..KEPT
#for at in 0..WINDOW
        window[{row}u * WINDOW + {at}u] = load_input(scaling, input_base, strip.y * STRIDE_Y + {row}u - params.padding_y, input_x + {at}u, live);
#endfor
#endfor
        for (var row = 0u; row < params.rows; row++) {
            let output_y = strip.y + row;
            let row_live = live && output_y < params.output_height;
#for row in KEPT..KERNEL_Y
#for at in 0..WINDOW
            window[{row}u * WINDOW + {at}u] = load_input(scaling, input_base, output_y * STRIDE_Y + {row}u - params.padding_y, input_x + {at}u, row_live);
#endfor
#endfor
            var sums: array<vec4<f32>, TILE>;
#for pixel in 0..TILE
            sums[{pixel}] = start;
#endfor
#for tap_y in 0..KERNEL_Y
#for tap_x in 0..KERNEL_X
#for pixel in 0..TILE
            sums[{pixel}] = fma(weights[{tap_y}u * KERNEL_X + {tap_x}u], window[{tap_y}u * WINDOW + {pixel}u * STRIDE_X + {tap_x}u], sums[{pixel}]);
#endfor
#endfor
#endfor
#for pixel in 0..TILE
            if row_live && strip.x + {pixel}u < params.output_width {
                output[output_base + output_y * params.output_width + strip.x + {pixel}u] = sums[{pixel}];
            }
#endfor
#ifdef MOMENTS
            own = merged(own, moments_of(sums, select(0u, min(TILE, params.output_width - strip.x), row_live)));
#endif
#for row in 0..KEPT
#for at in 0..WINDOW
            window[{row}u * WINDOW + {at}u] = window[({row}u + STRIDE_Y) * WINDOW + {at}u];
#endfor
#endfor
        }
    }

#ifdef MOMENTS
    note_moments(lane, 0u, own);
    store_moments(lane, split, params.groups / params.quads, quad, select(0u, params.quads, group < params.groups));
#endif
}
