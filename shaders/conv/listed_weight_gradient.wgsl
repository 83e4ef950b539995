// gradient[o, t, i] = sum over listed output pixels p:  output_gradient[o, p] * input[i, p * stride + t * dilation - padding]
//
// Tile: a workgroup sums blocks of OUTPUT_QUADS output quads by TAPS taps of a row by INPUT_QUADS input quads over its share of the list, which
// is as long as the others' whatever the list's length. Its LANES invocations take entries in turn, keep the blocks in registers and add them
// up in workgroup memory, in a fixed order. Share `split` of `splits` writes to partial[split]; sum_partials.wgsl adds the shares.
// Dispatch: [output_groups * kernel_y * tap_groups * slot_groups * splits] workgroups of LANES, folded.
// BLOCKS = OUTPUT_QUADS * TAPS * INPUT_QUADS.
// The input is read through its normalisation and activation, see common/source.wgsl.
#import common/grid
#import common/source

struct Params {
    groups: u32,
    output_groups: u32,
    tap_groups: u32,
    slot_groups: u32,
    splits: u32,
    output_height: u32,
    output_width: u32,
    output_plane: u32,
    input_height: u32,
    input_width: u32,
    input_plane: u32,
    stride_y: u32,
    stride_x: u32,
    dilation_y: u32,
    dilation_x: u32,
    padding_y: u32,
    padding_x: u32,
    kernel_y: u32,
    kernel_x: u32,
    input_quads: u32,
    // vec4s of one share.
    vectors: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> output_gradient: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> list: array<u32>;
@group(0) @binding(3) var<storage, read_write> source: array<vec4<f32>>;
#ifdef NORMALISE
@group(0) @binding(4) var<storage, read_write> normalisation: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> partial: array<vec4<f32>>;
#else
@group(0) @binding(4) var<storage, read_write> partial: array<vec4<f32>>;
#endif

const BLOCK_ROWS: u32 = BLOCKS * 4u;

var<workgroup> lane_sums: array<vec4<f32>, LANES * BLOCK_ROWS>;

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
    let input_quad = (rest % params.slot_groups) * INPUT_QUADS;
    let split = rest / params.slot_groups;
    let offset_y = tap_y * params.dilation_y - params.padding_y;
    let offset_x = first_tap * params.dilation_x - params.padding_x;

#for out in 0..OUTPUT_QUADS
#for in in 0..INPUT_QUADS
#for tap in 0..TAPS
#for row in 0..4
    var block_{out}_{in}_{tap}_{row} = vec4<f32>();
#endfor
#endfor
#endfor
#endfor

#for in in 0..INPUT_QUADS
    let scaling_{in} = scaling_of(input_quad + {in}u);
#endfor
    // Shares of whole turns of all lanes.
    let listed = list[0];
    let turn = params.splits * LANES;
    let share = (listed + turn - 1u) / turn * LANES;
    let end = min((split + 1u) * share, listed);
    for (var entry = split * share + lane; entry < end; entry += LANES) {
        let pixel = list[2u + entry];
        let row = pixel / params.output_width;
        let image = row / params.output_height;
        let input_y = (row - image * params.output_height) * params.stride_y + offset_y;
        let row_inside = input_y < params.input_height;
        let input_row = (image * params.input_height + input_y) * params.input_width;
        let first_x = (pixel - row * params.output_width) * params.stride_x + offset_x;
#for out in 0..OUTPUT_QUADS
        let gradient_{out} = output_gradient[(output_quad + {out}u) * params.output_plane + pixel];
#endfor
#for tap in 0..TAPS
        {
            let input_x = first_x + {tap}u * params.dilation_x;
            let inside = row_inside && input_x < params.input_width;
            let place = select(0u, input_row + input_x, inside);
#for in in 0..INPUT_QUADS
            {
                let value = select(vec4<f32>(), load_source(scaling_{in}, (input_quad + {in}u) * params.input_plane + place), inside);
#for out in 0..OUTPUT_QUADS
#for row in 0..4
                block_{out}_{in}_{tap}_{row} = fma(gradient_{out}, vec4<f32>(value[{row}]), block_{out}_{in}_{tap}_{row});
#endfor
#endfor
            }
#endfor
        }
#endfor
    }

#for out in 0..OUTPUT_QUADS
#for in in 0..INPUT_QUADS
#for tap in 0..TAPS
#for row in 0..4
    lane_sums[((({out}u * INPUT_QUADS + {in}u) * TAPS + {tap}u) * 4u + {row}u) * LANES + lane] = block_{out}_{in}_{tap}_{row};
#endfor
#endfor
#endfor
#endfor
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
        let tap = first_tap + block_row / 4u % TAPS;
        let in_quad = input_quad + block_row / (4u * TAPS) % INPUT_QUADS;
        let out_quad = output_quad + block_row / (4u * TAPS * INPUT_QUADS);
        if tap < params.kernel_x {
            let block = ((out_quad * params.kernel_y + tap_y) * params.kernel_x + tap) * params.input_quads + in_quad;
            partial[split * params.vectors + block * 4u + block_row % 4u] = total;
        }
    }
}
