// gradient[o, t, i] = sum over output pixels p:  output_gradient[o, p] * input[i, p * STRIDE + t * DILATION - PADDING]
//
// Tile: a workgroup sums blocks of OUTPUT_QUADS output quads by TAPS taps of a row by INPUT_QUADS input quads over its share of the pixels.
// Its LANES invocations take runs of PIXELS pixels of a row in turn, keep the blocks in registers and add them up in workgroup memory, in a
// fixed order. Share `split` of `splits` writes to partial[split]; sum_partials.wgsl adds the shares.
// Dispatch: [output_groups * kernel_y * tap_groups * slot_groups * splits] workgroups of LANES, folded.
// WINDOW = (PIXELS - 1) * STRIDE_X + (TAPS - 1) * DILATION_X + 1 input pixels of a row; BLOCKS = OUTPUT_QUADS * TAPS * INPUT_QUADS.
// NEIGHBOURS: a subgroup is the workgroup, and the runs of two pixels with a pixel on either side fill the rows of the input: what a lane sees
// beside its own two, it has from its neighbours, who load it; only the first and the last lane look beyond.
// The input is read through its normalisation and activation, see common/source.wgsl; with STASH it is decoded as well.
#import common/grid
#import common/source
#import common/turns

struct Params {
    groups: u32,
    output_groups: u32,
    tap_groups: u32,
    slot_groups: u32,
    // Runs of pixels: of the whole batch, of one share (a multiple of LANES), and side by side in a row.
    runs: u32,
    runs_per_split: u32,
    runs_per_row: u32,
    // What LANES runs further means in runs of a row, rows of an image and images.
    step_run: u32,
    step_row: u32,
    step_image: u32,
    output_height: u32,
    output_width: u32,
    output_plane: u32,
    input_height: u32,
    input_width: u32,
    input_plane: u32,
    stride_y: u32,
    dilation_y: u32,
    padding_y: u32,
    padding_x: u32,
    kernel_y: u32,
    kernel_x: u32,
    slots: u32,
    // vec4s of all blocks.
    weights: u32,
    input_quads: u32,
    // Grouped only.
    input_channels: u32,
    output_channels: u32,
    group_inputs: u32,
    group_outputs: u32,
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

const BLOCK_ROWS: u32 = BLOCKS * 4u;

var<workgroup> lane_sums: array<vec4<f32>, LANES * BLOCK_ROWS>;

// `pixel` is that of the first quad.
fn load_input(scaling: Scaling, first_quad: u32, quad: u32, pixel: u32) -> vec4<f32> {
#ifdef STASH
    return load_stashed(scaling, first_quad + quad, pixel - first_quad * params.input_plane, params.input_quads, params.input_plane);
#else
    return load_source(scaling, pixel + quad * params.input_plane);
#endif
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = flat_workgroup(workgroup, workgroups);
    var rest = min(group, params.groups - 1u);
    let output_quad = (rest % params.output_groups) * OUTPUT_QUADS;
    rest /= params.output_groups;
    let first_tap = (rest % params.tap_groups) * TAPS;
    rest /= params.tap_groups;
    let tap_y = rest % params.kernel_y;
    rest /= params.kernel_y;
    let slot = (rest % params.slot_groups) * INPUT_QUADS;
    let split = rest / params.slot_groups;
#ifdef GROUPED
    let first_channel = output_quad * 4u / params.group_outputs * params.group_inputs;
    let first_input_quad = min(first_channel / 4u, params.input_quads - params.slots);
    let input_quad = first_input_quad + slot;
#else
    let input_quad = slot;
#endif
    let offset_y = i32(tap_y * params.dilation_y) - i32(params.padding_y);
    let offset_x = i32(first_tap * DILATION_X) - i32(params.padding_x);

    var run_at = split * params.runs_per_split + lane;
    var row = run_at / params.runs_per_row;
    var run = run_at - row * params.runs_per_row;
    var image = row / params.output_height;
    var y = row - image * params.output_height;

#for out in 0..OUTPUT_QUADS
#for in in 0..INPUT_QUADS
#for tap in 0..TAPS
#for half in 0..2
#for one in 0..2
    var block_{out}_{in}_{tap}_{half}_{one} = vec4<f32>();
#endfor
#endfor
#endfor
#endfor
#endfor

#for in in 0..INPUT_QUADS
    let scaling_{in} = scaling_of(input_quad + {in}u);
#endfor
    for (var done = 0u; done < params.runs_per_split; done += LANES) {
        let live = run_at < params.runs;
        let x = run * PIXELS;
        let image_used = select(0u, image, live);
        let output_base = (image_used * params.output_height + y) * params.output_width;
#for pixel in 0..PIXELS
        let use_{pixel} = live && x + {pixel}u < params.output_width;
        let output_pixel_{pixel} = output_base + select(0u, x + {pixel}u, use_{pixel});
#for out in 0..OUTPUT_QUADS
        let gradient_{out}_{pixel} = select(vec4<f32>(), output_gradient[(output_quad + {out}u) * params.output_plane + output_pixel_{pixel}], use_{pixel});
#endfor
#endfor
        let input_y = i32(y * params.stride_y) + offset_y;
        let input_x = i32(x * STRIDE_X) + offset_x;
        let row_inside = live && u32(input_y) < params.input_height;
        let input_base = input_quad * params.input_plane
            + (image_used * params.input_height + select(0u, u32(input_y), row_inside)) * params.input_width;
#for at in 0..WINDOW
        let column_{at} = u32(input_x + {at});
        let inside_{at} = row_inside && column_{at} < params.input_width;
        let input_pixel_{at} = input_base + select(0u, column_{at}, inside_{at});
#endfor
#ifdef NEIGHBOURS
        let beyond_inside = select(inside_0, inside_3, lane > 0u);
        let beyond = select(input_pixel_0, input_pixel_3, lane > 0u);
#endif
#for in in 0..INPUT_QUADS
        var window_{in}: array<vec4<f32>, WINDOW>;
#ifdef NEIGHBOURS
#for at in 1..3
        window_{in}[{at}] = select(vec4<f32>(), load_input(scaling_{in}, input_quad, {in}u, input_pixel_{at}), inside_{at});
#endfor
        var beyond_{in} = vec4<f32>();
        if (lane == 0u || lane == LANES - 1u) && beyond_inside {
            beyond_{in} = load_input(scaling_{in}, input_quad, {in}u, beyond);
        }
        window_{in}[0] = select(select(vec4<f32>(), subgroupShuffleUp(window_{in}[2], 1u), inside_0), beyond_{in}, lane == 0u);
        window_{in}[3] = select(select(vec4<f32>(), subgroupShuffleDown(window_{in}[1], 1u), inside_3), beyond_{in}, lane == LANES - 1u);
#else
#for at in 0..WINDOW
        window_{in}[{at}] = select(vec4<f32>(), load_input(scaling_{in}, input_quad, {in}u, input_pixel_{at}), inside_{at});
#endfor
#endif
#for tap in 0..TAPS
#for out in 0..OUTPUT_QUADS
        // Two input channels at a time: eight sums stay in registers over all pixels, and a gradient meets two values.
#for half in 0..2
#for pixel in 0..PIXELS
#for one in 0..2
        block_{out}_{in}_{tap}_{half}_{one} = fma(gradient_{out}_{pixel}, vec4<f32>(window_{in}[{pixel}u * STRIDE_X + {tap}u * DILATION_X][{half} * 2 + {one}]), block_{out}_{in}_{tap}_{half}_{one});
#endfor
#endfor
#endfor
#endfor
#endfor
#endfor

        run_at += LANES;
        run += params.step_run;
        let next_row = run >= params.runs_per_row;
        run -= select(0u, params.runs_per_row, next_row);
        y += params.step_row + u32(next_row);
        let next_image = y >= params.output_height;
        y -= select(0u, params.output_height, next_image);
        image += params.step_image + u32(next_image);
    }

    // A channel of every block in turn, see common/turns.wgsl.
    let channels = turns(4u, params.groups);
    for (var channel = 0u; channel < channels; channel++) {
#for out in 0..OUTPUT_QUADS
#for in in 0..INPUT_QUADS
#for tap in 0..TAPS
        lane_sums[(((({out}u * INPUT_QUADS + {in}u) * TAPS + {tap}u) * 4u + channel) * LANES) + lane] = block_{out}_{in}_{tap}_0_0;
        block_{out}_{in}_{tap}_0_0 = block_{out}_{in}_{tap}_0_1;
        block_{out}_{in}_{tap}_0_1 = block_{out}_{in}_{tap}_1_0;
        block_{out}_{in}_{tap}_1_0 = block_{out}_{in}_{tap}_1_1;
#endfor
#endfor
#endfor
    }
    workgroupBarrier();

    if group >= params.groups {
        return;
    }
    // One vec4 of a block (four output channels for one input channel) an invocation.
    // LANES as a number no compiler knows, lest it unrolls what runs once.
    let lanes = select(LANES, 0u, params.groups == 0u);
    for (var block_row = lane; block_row < BLOCK_ROWS; block_row += lanes) {
        var total = vec4<f32>();
        for (var other = 0u; other < lanes; other++) {
            total += lane_sums[block_row * LANES + other];
        }
        let channel = block_row % 4u;
        let tap = first_tap + block_row / 4u % TAPS;
        let in_quad = block_row / (4u * TAPS) % INPUT_QUADS;
        let out_quad = output_quad + block_row / (4u * TAPS * INPUT_QUADS);
#ifdef GROUPED
        // Elements between groups stay exactly zero, so that an optimiser keeps them zero.
        let input_channel = (input_quad + in_quad) * 4u + channel;
        let output_channel = vec4<u32>(out_quad * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
        let same_group = output_channel / vec4<u32>(params.group_outputs) == vec4<u32>(input_channel / params.group_inputs);
        let real = (output_channel < vec4<u32>(params.output_channels)) & vec4<bool>(input_channel < params.input_channels);
        total = select(vec4<f32>(), total, same_group & real);
#endif
        if tap < params.kernel_x {
            let block = (out_quad * params.kernel_y * params.kernel_x + tap_y * params.kernel_x + tap) * params.slots + slot + in_quad;
            partial[split * params.weights + block * 4u + channel] = total;
        }
    }
}
