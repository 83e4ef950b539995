// gradient[o, t, i] = sum over output pixels p:  output_gradient[o, p] * input[i, p * STRIDE + t * DILATION - PADDING]
//
// Tile: a workgroup sums the blocks of OUTPUT_LANES * OUTPUT_QUADS output quads by all taps by INPUT_LANES * INPUT_QUADS input quads over its
// share of the pixels, an invocation those of OUTPUT_QUADS by TAPS taps of a row by INPUT_QUADS, in registers. For every RUNS runs of PIXELS
// pixels of a row it holds in workgroup memory the output gradient and the patch of the input that they see; PIXEL_LANES invocations take the
// runs in turn, and are added up at the end. Share `split` of `splits` writes to partial[split]; sum_partials.wgsl adds the shares.
// Dispatch: [output_groups * input_groups * splits] workgroups of LANES = OUTPUT_LANES * INPUT_LANES * TAP_LANES * PIXEL_LANES, folded.
// TAP_LANES = kernel_y * ceil(kernel_x / TAPS); WINDOW = (PIXELS - 1) * STRIDE_X + (TAPS - 1) * DILATION_X + 1 input pixels of a row.
//
// The patch is a run of PATCH pixels of the map that common/patch_map.wgsl describes, its target pixels being those of whole runs.
// GRADIENT_LOADS = ceil(OUTPUT_LANES * OUTPUT_QUADS * RUNS * PIXELS / LANES); PATCH_LOADS = ceil(INPUT_LANES * INPUT_QUADS * PATCH / LANES).
// The input is read through its normalisation and activation, see common/source.wgsl; with STASH it is decoded as well.
#import common/grid
#import common/patch_map
#import common/source
#import common/turns

struct Params {
    groups: u32,
    output_groups: u32,
    input_groups: u32,
    output_quads: u32,
    slots: u32,
    // Runs of pixels, RUNS_PER_ROW side by side: of the whole batch, and of one share (a multiple of RUNS).
    runs: u32,
    runs_per_split: u32,
    output_width: u32,
    output_plane: u32,
    // The input.
    images: u32,
    source_height: u32,
    source_width: u32,
    source_plane: u32,
    stride_y: u32,
    dilation_y: u32,
    origin_y: i32,
    origin_x: i32,
    kernel_y: u32,
    kernel_x: u32,
    // vec4s of all blocks.
    weights: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
#ifdef STASH
@group(0) @binding(1) var<storage, read_write> stash: array<vec4<u32>>;
#else
@group(0) @binding(1) var<storage, read_write> source: array<vec4<f32>>;
#endif
@group(0) @binding(2) var<storage, read_write> output_gradient: array<vec4<f32>>;
#ifdef NORMALISE
@group(0) @binding(3) var<storage, read_write> normalisation: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> partial: array<vec4<f32>>;
#else
@group(0) @binding(3) var<storage, read_write> partial: array<vec4<f32>>;
#endif
#ifdef SLOPES
@group(0) @binding(5) var<storage, read_write> slopes: array<u32>;
#endif

const TILE_OUTPUTS: u32 = OUTPUT_LANES * OUTPUT_QUADS;
const TILE_INPUTS: u32 = INPUT_LANES * INPUT_QUADS;
const TILE_PIXELS: u32 = RUNS * PIXELS;
// One more than there are pixels, so that neighbouring quads stand in different banks.
const GRADIENT_STRIDE: u32 = TILE_PIXELS + 1u;
const PATCHES_AT: u32 = TILE_OUTPUTS * GRADIENT_STRIDE;
// Neighbouring lanes by twos share output gradients, and every other lane input pixels, so that what half a subgroup reads comes at once.
const MIX: u32 = 2u - INPUT_LANES % 2u;
const BLOCK_LANES: u32 = OUTPUT_LANES * INPUT_LANES * TAP_LANES;

// The output gradient, then the patches; at the end what is to be added up.
var<workgroup> held: array<vec4<f32>, HELD>;
// Where in the patch the runs begin.
var<workgroup> run_at: array<u32, RUNS>;

// Where in the map of patches the first tap of a run falls.
fn first_tap(run: u32) -> u32 {
    let place = place_of(run, OUTPUT_HEIGHT, RUNS_PER_ROW);
    return (place.image * ROWS + place.y * params.stride_y) * COLUMNS + place.x * (PIXELS * STRIDE_X);
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = flat_workgroup(workgroup, workgroups);
    if group >= params.groups {
        return;
    }
    let groups_of_outputs = group / params.output_groups;
    let split = groups_of_outputs / params.input_groups;
    let first_output = (group - groups_of_outputs * params.output_groups) * TILE_OUTPUTS;
    let first_input = (groups_of_outputs - split * params.input_groups) * TILE_INPUTS;
    let block_lane = lane % BLOCK_LANES;
    let pixel_lane = lane / BLOCK_LANES;
    let input_lane = block_lane % MIX + block_lane / (MIX * OUTPUT_LANES) % (INPUT_LANES / MIX) * MIX;
    let output_lane = block_lane / MIX % OUTPUT_LANES;
    let tap_lane = block_lane / (OUTPUT_LANES * INPUT_LANES);
    let tap_y = tap_lane % params.kernel_y;
    let first_tap_x = tap_lane / params.kernel_y * TAPS;
    let tap_at = tap_y * params.dilation_y * COLUMNS + first_tap_x * DILATION_X;

#for load in 0..GRADIENT_LOADS
    let gradient_entry_{load} = lane + {load}u * LANES;
    let gradient_pixel_{load} = gradient_entry_{load} % TILE_PIXELS;
    let gradient_quad_{load} = gradient_entry_{load} / TILE_PIXELS;
    let gradient_base_{load} = min(first_output + gradient_quad_{load}, params.output_quads - 1u) * params.output_plane;
#endfor
#for load in 0..PATCH_LOADS
    let patch_entry_{load} = lane + {load}u * LANES;
    let patch_pixel_{load} = patch_entry_{load} % PATCH;
    // What is surplus reads something that is there and is not used.
    let patch_quad_{load} = min(first_input + patch_entry_{load} / PATCH, params.slots - 1u);
    let scaling_{load} = scaling_of(patch_quad_{load});
#endfor

#for out in 0..OUTPUT_QUADS
#for in in 0..INPUT_QUADS
#for tap in 0..TAPS
#for channel in 0..4
    var block_{out}_{in}_{tap}_{channel} = vec4<f32>();
#endfor
#endfor
#endfor
#endfor

    for (var done = 0u; done < params.runs_per_split; done += RUNS) {
        let first_run = split * params.runs_per_split + done;
        let patch_at = first_tap(first_run);
#for load in 0..GRADIENT_LOADS
        let run_{load} = first_run + gradient_pixel_{load} / PIXELS;
        let row_{load} = run_{load} / RUNS_PER_ROW;
        let x_{load} = (run_{load} - row_{load} * RUNS_PER_ROW) * PIXELS + gradient_pixel_{load} % PIXELS;
        let use_{load} = run_{load} < params.runs && x_{load} < params.output_width;
        let gradient_{load} = select(vec4<f32>(), output_gradient[gradient_base_{load} + select(0u, row_{load} * params.output_width + x_{load}, use_{load})], use_{load});
#endfor
#for load in 0..PATCH_LOADS
        let found_{load} = place_in_source(patch_at + patch_pixel_{load});
#ifdef STASH
        let patch_{load} = select(vec4<f32>(), load_stashed(scaling_{load}, patch_quad_{load}, found_{load}.pixel, params.slots, params.source_plane), found_{load}.inside);
#else
        let patch_{load} = select(vec4<f32>(), load_source(scaling_{load}, patch_quad_{load} * params.source_plane + found_{load}.pixel), found_{load}.inside);
#endif
#endfor
        // All have read what is now replaced.
        workgroupBarrier();
#for load in 0..GRADIENT_LOADS
        if gradient_quad_{load} < TILE_OUTPUTS {
            held[gradient_quad_{load} * GRADIENT_STRIDE + gradient_pixel_{load}] = gradient_{load};
        }
#endfor
#for load in 0..PATCH_LOADS
        if patch_entry_{load} < TILE_INPUTS * PATCH {
            held[PATCHES_AT + patch_entry_{load}] = patch_{load};
        }
#endfor
        if lane < RUNS {
            run_at[lane] = first_tap(first_run + lane) - patch_at;
        }
        workgroupBarrier();

        for (var run = pixel_lane; run < RUNS; run += PIXEL_LANES) {
            let window_at = PATCHES_AT + input_lane * PATCH + run_at[run] + tap_at;
            let gradient_at = output_lane * GRADIENT_STRIDE + run * PIXELS;
#for out in 0..OUTPUT_QUADS
#for pixel in 0..PIXELS
            let value_{out}_{pixel} = held[gradient_at + {out}u * OUTPUT_LANES * GRADIENT_STRIDE + {pixel}u];
#endfor
#endfor
#for in in 0..INPUT_QUADS
            var window_{in}: array<vec4<f32>, WINDOW>;
#for at in 0..WINDOW
            window_{in}[{at}] = held[window_at + {in}u * INPUT_LANES * PATCH + {at}u];
#endfor
#for tap in 0..TAPS
#for out in 0..OUTPUT_QUADS
#for pixel in 0..PIXELS
#for channel in 0..4
            block_{out}_{in}_{tap}_{channel} = fma(value_{out}_{pixel}, vec4<f32>(window_{in}[{pixel}u * STRIDE_X + {tap}u * DILATION_X][{channel}]), block_{out}_{in}_{tap}_{channel});
#endfor
#endfor
#endfor
#endfor
#endfor
        }
    }

    let others = turns(PIXEL_LANES - 1u, params.groups);
#for out in 0..OUTPUT_QUADS
#for in in 0..INPUT_QUADS
#for tap in 0..TAPS
    workgroupBarrier();
    if pixel_lane > 0u {
#for channel in 0..4
        held[((pixel_lane - 1u) * 4u + {channel}u) * BLOCK_LANES + block_lane] = block_{out}_{in}_{tap}_{channel};
#endfor
    }
    workgroupBarrier();
    if pixel_lane == 0u {
        for (var other = 0u; other < others; other++) {
#for channel in 0..4
            block_{out}_{in}_{tap}_{channel} += held[(other * 4u + {channel}u) * BLOCK_LANES + block_lane];
#endfor
        }
        let quad = first_output + output_lane + {out}u * OUTPUT_LANES;
        let slot = first_input + input_lane + {in}u * INPUT_LANES;
        let tap_x = first_tap_x + {tap}u;
        if quad < params.output_quads && slot < params.slots && tap_x < params.kernel_x {
            let block = ((quad * params.kernel_y + tap_y) * params.kernel_x + tap_x) * params.slots + slot;
#for channel in 0..4
            partial[split * params.weights + block * 4u + {channel}u] = block_{out}_{in}_{tap}_{channel};
#endfor
        }
    }
#endfor
#endfor
#endfor
}
