// Both gradients of a depthwise convolution (or one of them, as the same sums in the same order), with output pixel p(q, t) =
// (q + PADDING - t) / STRIDE of input pixel q and tap t, over all pairs for which that is a pixel:
// BY_INPUT:   input_gradient[c, q] = sum over t:   weight[c, t] * output_gradient[c, p(q, t)]
// BY_WEIGHT:  weight_gradient[c, t] = sum over q:  input[c, q] * output_gradient[c, p(q, t)]
//
// Tile: an invocation walks down a strip of cells, STRIDE_Y by STRIDE_X input pixels each, TILE of them side by side and `rows` one below
// the other. It holds the rows of the output gradient that a cell meets and loads one more at each step, so that the output gradient is
// read once (but for the edges of a strip), and the input once. The LANES invocations of a workgroup take strips of one quad in turn and
// add up their weight gradients in workgroup memory, in a fixed order. Share `split` writes to partial[split].
// Dispatch: [quads * splits] workgroups of LANES, folded.
// HELD_Y = ceil(KERNEL_Y / STRIDE_Y) - 1 rows are kept from one step to the next, HELD_X likewise; WINDOW = TILE + HELD_X pixels of a row,
// COLUMNS = TILE * STRIDE_X, TAPS = KERNEL_Y * KERNEL_X.
// `activated` (under SOURCE) is the input as it stands in memory, read through NORMALISE and ACTIVATION_..., see common/scaling.wgsl; with STASH (not
// DERIVATIVE) it is a stash that is decoded as it is loaded, see common/source.wgsl.
// DERIVATIVE: the complete input gradient is multiplied with the derivative of this activation.
#import common/grid
#ifdef STASH
#import common/source
#else
#import common/scaling
#endif
#import common/strip

struct Params {
    groups: u32,
    quads: u32,
    // Strips: of the whole batch, of one share (a multiple of LANES), side by side, and one below the other in an image.
    strips: u32,
    strips_per_split: u32,
    strips_per_row: u32,
    bands: u32,
    // Cells of a strip, one below the other.
    rows: u32,
    // The cell of the first input pixel.
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
#ifdef STASH
@group(0) @binding(1) var<storage, read_write> stash: array<vec4<u32>>;
const AFTER_SOURCE = 2;
#else
#ifdef SOURCE
@group(0) @binding(1) var<storage, read_write> activated: array<vec4<f32>>;
const AFTER_SOURCE = 2;
#else
const AFTER_SOURCE = 1;
#endif
#endif
@group(0) @binding(AFTER_SOURCE) var<storage, read_write> output_gradient: array<vec4<f32>>;
const AFTER_OUTPUT = AFTER_SOURCE + 1;
#ifdef BY_INPUT
@group(0) @binding(AFTER_OUTPUT) var<storage, read_write> weight: array<vec4<f32>>;
const AFTER_WEIGHT = AFTER_OUTPUT + 1;
#else
const AFTER_WEIGHT = AFTER_OUTPUT;
#endif
#ifdef NORMALISE
@group(0) @binding(AFTER_WEIGHT) var<storage, read_write> normalisation: array<vec4<f32>>;
const AFTER_NORMALISATION = AFTER_WEIGHT + 1;
#else
const AFTER_NORMALISATION = AFTER_WEIGHT;
#endif
#ifdef BY_INPUT
@group(0) @binding(AFTER_NORMALISATION) var<storage, read_write> input_gradient: array<vec4<f32>>;
const AFTER_INPUT = AFTER_NORMALISATION + 1;
#else
const AFTER_INPUT = AFTER_NORMALISATION;
#endif
#ifdef BY_WEIGHT
@group(0) @binding(AFTER_INPUT) var<storage, read_write> partial: array<vec4<f32>>;
const AFTER_PARTIAL = AFTER_INPUT + 1;
#else
const AFTER_PARTIAL = AFTER_INPUT;
#endif
#ifdef SLOPES
@group(0) @binding(AFTER_PARTIAL) var<storage, read_write> slopes: array<u32>;
#endif

const CELL: u32 = STRIDE_Y * COLUMNS;

#ifdef BY_WEIGHT
var<workgroup> lane_sums: array<vec4<f32>, TAPS * LANES>;
#endif

// Zero outside of the map.
fn load_gradient(base: u32, y: u32, x: u32, live: bool) -> vec4<f32> {
    let inside = live && y < params.output_height && x < params.output_width;
    return select(vec4<f32>(), output_gradient[base + select(0u, y * params.output_width + x, inside)], inside);
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
#ifdef SOURCE
    let scaling = scaling_of(quad);
#endif
#ifdef BY_INPUT
    var weights: array<vec4<f32>, TAPS>;
#for tap in 0..TAPS
    weights[{tap}] = weight[quad * TAPS + {tap}u];
#endfor
#endif
#ifdef BY_WEIGHT
    var by_weight: array<vec4<f32>, TAPS>;
#endif

    for (var done = 0u; done < params.strips_per_split; done += LANES) {
        let strip = strip_at(split * params.strips_per_split + done + lane);
        let live = strip.live && group < params.groups;
        let output_base = quad * params.output_plane + strip.image * params.output_height * params.output_width;
        let input_base = quad * params.input_plane + strip.image * params.input_height * params.input_width;

        var window: array<vec4<f32>, (HELD_Y + 1) * WINDOW>;
#for row in 0..HELD_Y
#for at in 0..WINDOW
        window[{row}u * WINDOW + {at}u] = load_gradient(output_base, strip.y + {row}u - HELD_Y, strip.x + {at}u - HELD_X, live);
#endfor
#endfor
        for (var row = 0u; row < params.rows; row++) {
            let cell_y = strip.y + row;
#for at in 0..WINDOW
            window[HELD_Y * WINDOW + {at}u] = load_gradient(output_base, cell_y, strip.x + {at}u - HELD_X, live);
#endfor
            // Where each pixel of the cells stands; those outside are told apart by `inside`.
#for y in 0..STRIDE_Y
            let input_y_{y} = cell_y * STRIDE_Y + {y}u - params.padding_y;
            let row_inside_{y} = live && input_y_{y} < params.input_height;
            let row_base_{y} = input_base + select(0u, input_y_{y}, row_inside_{y}) * params.input_width;
#for x in 0..COLUMNS
            let input_x_{y}_{x} = strip.x * STRIDE_X + {x}u - params.padding_x;
            let inside_{y}_{x} = row_inside_{y} && input_x_{y}_{x} < params.input_width;
            let element_{y}_{x} = row_base_{y} + select(0u, input_x_{y}_{x}, inside_{y}_{x});
#ifdef SOURCE
#ifdef STASH
            let value_{y}_{x} = load_stashed(scaling, quad, element_{y}_{x} - quad * params.input_plane, params.quads, params.input_plane);
#else
            let value_{y}_{x} = scaled(scaling, activated[element_{y}_{x}]);
#endif
#endif
#endfor
#endfor
#ifdef BY_WEIGHT
            var input: array<vec4<f32>, CELL>;
#for y in 0..STRIDE_Y
#for x in 0..COLUMNS
#ifdef STASH
            input[{y}u * COLUMNS + {x}u] = select(vec4<f32>(), value_{y}_{x}, inside_{y}_{x});
#else
            input[{y}u * COLUMNS + {x}u] = select(vec4<f32>(), activate(value_{y}_{x}), inside_{y}_{x});
#endif
#endfor
#endfor
#endif
#ifdef BY_INPUT
            var by_input: array<vec4<f32>, CELL>;
#endif
#for tap_y in 0..KERNEL_Y
#for tap_x in 0..KERNEL_X
#for cell in 0..TILE
            {
                let pixel = ({tap_y}u % STRIDE_Y) * COLUMNS + {cell}u * STRIDE_X + {tap_x}u % STRIDE_X;
                let gradient = window[(HELD_Y - {tap_y}u / STRIDE_Y) * WINDOW + {cell}u + HELD_X - {tap_x}u / STRIDE_X];
#ifdef BY_INPUT
                by_input[pixel] = fma(weights[{tap_y}u * KERNEL_X + {tap_x}u], gradient, by_input[pixel]);
#endif
#ifdef BY_WEIGHT
                by_weight[{tap_y}u * KERNEL_X + {tap_x}u] = fma(input[pixel], gradient, by_weight[{tap_y}u * KERNEL_X + {tap_x}u]);
#endif
            }
#endfor
#endfor
#endfor
#ifdef BY_INPUT
#for y in 0..STRIDE_Y
#for x in 0..COLUMNS
            if inside_{y}_{x} {
                var result = by_input[{y}u * COLUMNS + {x}u];
#ifdef ACCUMULATE
                result += input_gradient[element_{y}_{x}];
#endif
#ifdef DERIVATIVE
                result *= activate_derivative(value_{y}_{x});
#endif
                input_gradient[element_{y}_{x}] = result;
            }
#endfor
#endfor
#endif
#for row in 0..HELD_Y
#for at in 0..WINDOW
            window[{row}u * WINDOW + {at}u] = window[({row}u + 1) * WINDOW + {at}u];
#endfor
#endfor
        }
    }

#ifdef BY_WEIGHT
#for tap in 0..TAPS
    lane_sums[{tap}u * LANES + lane] = by_weight[{tap}u];
#endfor
    workgroupBarrier();
    // LANES as a number no compiler knows, lest it unrolls what runs once.
    let lanes = select(LANES, 0u, params.groups == 0u);
    for (var tap = lane; tap < TAPS && group < params.groups; tap += lanes) {
        var total = vec4<f32>();
        for (var other = 0u; other < lanes; other++) {
            total += lane_sums[tap * LANES + other];
        }
        partial[(split * params.quads + quad) * TAPS + tap] = total;
    }
#endif
}
