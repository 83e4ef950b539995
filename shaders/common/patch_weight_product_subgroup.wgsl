// The part of filter/gradients.wgsl that computes the weight gradient, where input quads suffice for all lanes of a subgroup:
//
// weight_gradient[o, t, i] = sum over patches p:  average[o, p] * sum[i, p]     for every tap t
//
// Tile: a workgroup is one subgroup of SUBGROUP lanes. Each lane has an input quad of its own and sums its blocks with OUTPUT_QUADS output quads
// over a share of the patches, SUBGROUP at a time: of these each lane loads the averages of one, and the subgroup shares them. Nothing is left to be
// added up between lanes.
fn weight_product(group: u32, lane: u32) {
    if group >= params.weight_groups {
        return;
    }
    var rest = group;
    let output_quad = (rest % params.output_groups) * OUTPUT_QUADS;
    rest /= params.output_groups;
    let input_quad = (rest % params.input_groups) * SUBGROUP + lane;
    let split = rest / params.input_groups;
    let sums = min(input_quad, params.input_quads - 1u) * params.patches;

#for out in 0..OUTPUT_QUADS
#for row in 0..4
    var block_{out}_{row} = vec4<f32>();
#endfor
#endfor

    let first = split * params.patches_per_split;
    let end = min(first + params.patches_per_split, params.patches);
    for (var done = first; done < end; done += SUBGROUP) {
        let live = done + lane < end;
        let shared_patch = min(done + lane, end - 1u);
#for out in 0..OUTPUT_QUADS
        let average_{out} = select(vec4<f32>(), average[(output_quad + {out}u) * params.patches + shared_patch], live);
#endfor
#for part in 0..SUBGROUP
        let sum_{part} = patch_sums[sums + min(done + {part}u, end - 1u)];
#endfor
#for out in 0..OUTPUT_QUADS
#for part in 0..SUBGROUP
        let gradient_{out}_{part} = subgroupBroadcast(average_{out}, {part}u);
        block_{out}_0 = fma(gradient_{out}_{part}, vec4<f32>(sum_{part}.x), block_{out}_0);
        block_{out}_1 = fma(gradient_{out}_{part}, vec4<f32>(sum_{part}.y), block_{out}_1);
        block_{out}_2 = fma(gradient_{out}_{part}, vec4<f32>(sum_{part}.z), block_{out}_2);
        block_{out}_3 = fma(gradient_{out}_{part}, vec4<f32>(sum_{part}.w), block_{out}_3);
#endfor
#endfor
    }

    if input_quad >= params.input_quads {
        return;
    }
    for (var tap = 0u; tap < params.weight_taps; tap++) {
#for out in 0..OUTPUT_QUADS
        let at_{out} = split * params.weights + (((output_quad + {out}u) * params.weight_taps + tap) * params.input_quads + input_quad) * 4u;
#for row in 0..4
        weight_gradient[at_{out} + {row}u] = block_{out}_{row};
#endfor
#endfor
    }
}
