// gradient[o, t, i] = sum over patches p:  average[o, p] * sum[i, p]     for every tap t
//
// Tile: a workgroup sums blocks of OUTPUT_QUADS output quads by INPUT_QUADS input quads over its share of the patches. Its LANES invocations
// take PATCHES at a time, keep the blocks in registers and add them up in workgroup memory, in a fixed order, which goes to all `taps`.
// Share `split` of several writes to gradient[split], with one tap; spread_taps.wgsl adds the shares.
// Dispatch: [output_groups * input_groups * splits] workgroups of LANES, folded. BLOCKS = OUTPUT_QUADS * INPUT_QUADS.
#import common/grid

struct Params {
    groups: u32,
    output_groups: u32,
    input_groups: u32,
    patches: u32,
    // A multiple of LANES * PATCHES.
    patches_per_split: u32,
    input_quads: u32,
    taps: u32,
    // vec4s of one share.
    weights: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> patch_sums: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> average: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> gradient: array<vec4<f32>>;

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
    let input_quad = (rest % params.input_groups) * INPUT_QUADS;
    let split = rest / params.input_groups;

#for out in 0..OUTPUT_QUADS
#for in in 0..INPUT_QUADS
#for row in 0..4
    var block_{out}_{in}_{row} = vec4<f32>();
#endfor
#endfor
#endfor

    let first = split * params.patches_per_split + lane;
    for (var done = 0u; done < params.patches_per_split; done += LANES * PATCHES) {
#for part in 0..PATCHES
        let at_{part} = first + done + {part}u * LANES;
        let live_{part} = at_{part} < params.patches;
        let patch_{part} = select(0u, at_{part}, live_{part});
#for out in 0..OUTPUT_QUADS
        let gradient_{out}_{part} = select(vec4<f32>(), average[(output_quad + {out}u) * params.patches + patch_{part}], live_{part});
#endfor
#endfor
#for in in 0..INPUT_QUADS
#for part in 0..PATCHES
        let sum_{in}_{part} = patch_sums[(input_quad + {in}u) * params.patches + patch_{part}];
#endfor
#for out in 0..OUTPUT_QUADS
        // Two input channels at a time: eight sums stay in registers over all patches.
#for part in 0..PATCHES
        block_{out}_{in}_0 = fma(gradient_{out}_{part}, vec4<f32>(sum_{in}_{part}.x), block_{out}_{in}_0);
        block_{out}_{in}_1 = fma(gradient_{out}_{part}, vec4<f32>(sum_{in}_{part}.y), block_{out}_{in}_1);
#endfor
#for part in 0..PATCHES
        block_{out}_{in}_2 = fma(gradient_{out}_{part}, vec4<f32>(sum_{in}_{part}.z), block_{out}_{in}_2);
        block_{out}_{in}_3 = fma(gradient_{out}_{part}, vec4<f32>(sum_{in}_{part}.w), block_{out}_{in}_3);
#endfor
#endfor
#endfor
    }

#for out in 0..OUTPUT_QUADS
#for in in 0..INPUT_QUADS
#for row in 0..4
    lane_sums[(({out}u * INPUT_QUADS + {in}u) * 4u + {row}u) * LANES + lane] = block_{out}_{in}_{row};
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
        let in_quad = input_quad + block_row / 4u % INPUT_QUADS;
        let out_quad = output_quad + block_row / (4u * INPUT_QUADS);
        for (var tap = 0u; tap < params.taps; tap++) {
            let block = (out_quad * params.taps + tap) * params.input_quads + in_quad;
            gradient[split * params.weights + block * 4u + block_row % 4u] = total;
        }
    }
}
