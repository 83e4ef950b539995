// The part of filter/gradients.wgsl that computes the weight gradient:
//
// weight_gradient[o, t, i] = sum over patches p:  average[o, p] * sum[i, p]     for every tap t
//
// Tile: a workgroup sums blocks of OUTPUT_QUADS output quads by INPUT_QUADS input quads over its share of the patches. Its LANES invocations
// take PATCHES at a time, keep the blocks in registers and add them up in workgroup memory, in a fixed order, which goes to all `taps`.
// BLOCKS = OUTPUT_QUADS * INPUT_QUADS.
const BLOCK_ROWS: u32 = BLOCKS * 4u;
const PARTS: u32 = max(LANES / BLOCK_ROWS, 1u);

fn weight_product(group: u32, lane: u32) {
    var rest = min(group, params.weight_groups - 1u);
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
    shared_sums[(({out}u * INPUT_QUADS + {in}u) * 4u + {row}u) * LANES + lane] = block_{out}_{in}_{row};
#endfor
#endfor
#endfor
    workgroupBarrier();

    // Each of PARTS neighbours adds up a part of a row of a block (four output channels for one input channel), in the place of its first sum.
    let row = lane / PARTS;
    let part = lane % PARTS;
    // As numbers no compiler knows, lest it unrolls what runs once.
    let rows = select(LANES / PARTS, 0u, params.weight_groups == 0u);
    let share = select(LANES / PARTS, 0u, params.weight_groups == 0u);
    for (var block_row = row; block_row < BLOCK_ROWS; block_row += rows) {
        let begin = block_row * LANES + part * share;
        var total = shared_sums[begin];
        for (var other = 1u; other < share; other++) {
            total += shared_sums[begin + other];
        }
        shared_sums[begin] = total;
    }
    workgroupBarrier();
    if group >= params.weight_groups {
        return;
    }
    for (var block_row = row; block_row < BLOCK_ROWS; block_row += rows) {
        var total = vec4<f32>();
        for (var other = 0u; other < PARTS; other++) {
            total += shared_sums[block_row * LANES + other * share];
        }
        let in_quad = input_quad + block_row / 4u % INPUT_QUADS;
        let out_quad = output_quad + block_row / (4u * INPUT_QUADS);
        for (var tap = part; tap < params.weight_taps; tap += PARTS) {
            let block = (out_quad * params.weight_taps + tap) * params.input_quads + in_quad;
            weight_gradient[split * params.weights + block * 4u + block_row % 4u] = total;
        }
    }
}
