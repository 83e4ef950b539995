// The part of filter/gradients.wgsl that computes the input gradient:
//
// input_gradient[i, pixel] = sum over taps t and output channels o:  weight[o, t, i] * average[o, patch of the pixel + first - t * step]
//
// With one tap, the sum of all, this is a matrix product over the patches; with several, patches outside count as zero.
// Tile: an invocation computes TILE patches, WIDTH apart so that neighbours read neighbouring memory, by QUADS input quads, and writes each
// to all pixels of its patch. WIDTH is LANES, or with SLICES, LANES / SLICES: each slice sums a share of the output channels, and writes some
// rows of every patch.
// SUBGROUP: the lanes of a subgroup of that size load a block of weights together, LOADS = ceil(4 * QUADS / SUBGROUP) vectors each, and
// broadcast them; without it every invocation loads all it needs.
#import common/patches

#ifdef SLICES
const WIDTH: u32 = LANES / SLICES;
#else
const WIDTH: u32 = LANES;
#endif

#ifdef SUBGROUP
fn input_product(group: u32, lane: u32, subgroup_lane: u32) {
#else
fn input_product(group: u32, lane: u32) {
#endif
    let patch_group = group / params.quad_groups;
    let input_quad = (group - patch_group * params.quad_groups) * QUADS;
#ifdef SLICES
    let slice = lane / WIDTH;
    let first_patch = patch_group * (WIDTH * TILE) + lane % WIDTH;
#else
    let first_patch = patch_group * (WIDTH * TILE) + lane;
#endif

#for part in 0..TILE
    let patch_{part} = first_patch + {part}u * WIDTH;
    // Surplus patches repeat the last one and are not stored.
    let place_{part} = patch_place(min(patch_{part}, params.patches - 1u), params.patches_y, params.patches_x);
#for quad in 0..QUADS
    var sum_{part}_{quad} = vec4<f32>();
#endfor
#endfor

    for (var tap = 0u; tap < params.taps; tap++) {
        let tap_y = tap / params.taps_x;
        let shift_y = params.first_y - tap_y * params.step_y;
        let shift_x = params.first_x - (tap - tap_y * params.taps_x) * params.step_x;
#for part in 0..TILE
        let from_y_{part} = place_{part}.y + shift_y;
        let from_x_{part} = place_{part}.x + shift_x;
        let inside_{part} = from_y_{part} < params.patches_y && from_x_{part} < params.patches_x;
        let from_{part} = select(0u, (place_{part}.image * params.patches_y + from_y_{part}) * params.patches_x + from_x_{part}, inside_{part});
#endfor
#ifdef SLICES
        for (var output_quad = slice; output_quad < params.output_quads; output_quad += SLICES) {
#else
        for (var output_quad = 0u; output_quad < params.output_quads; output_quad++) {
#endif
#for part in 0..TILE
            let value_{part} = select(vec4<f32>(), average[output_quad * params.patches + from_{part}], inside_{part});
#endfor
            let block = ((output_quad * params.taps + tap) * params.input_quads + input_quad) * 4u;
#ifdef SUBGROUP
            // Each lane loads one vector of the blocks; the subgroup shares them.
            var loaded: array<vec4<f32>, LOADS>;
#for load in 0..LOADS
            loaded[{load}] = weight[block + min(subgroup_lane + {load}u * SUBGROUP, QUADS * 4u - 1u)];
#endfor
#endif
#for quad in 0..QUADS
#for row in 0..4
#ifdef SUBGROUP
            let weight_{quad}_{row} = subgroupBroadcast(loaded[({quad}u * 4u + {row}u) / SUBGROUP], ({quad}u * 4u + {row}u) % SUBGROUP);
#else
            let weight_{quad}_{row} = weight[block + {quad}u * 4u + {row}u];
#endif
#endfor
#for part in 0..TILE
            sum_{part}_{quad} = fma(vec4<f32>(weight_{quad}_0.x, weight_{quad}_1.x, weight_{quad}_2.x, weight_{quad}_3.x), vec4<f32>(value_{part}.x), sum_{part}_{quad});
            sum_{part}_{quad} = fma(vec4<f32>(weight_{quad}_0.y, weight_{quad}_1.y, weight_{quad}_2.y, weight_{quad}_3.y), vec4<f32>(value_{part}.y), sum_{part}_{quad});
            sum_{part}_{quad} = fma(vec4<f32>(weight_{quad}_0.z, weight_{quad}_1.z, weight_{quad}_2.z, weight_{quad}_3.z), vec4<f32>(value_{part}.z), sum_{part}_{quad});
            sum_{part}_{quad} = fma(vec4<f32>(weight_{quad}_0.w, weight_{quad}_1.w, weight_{quad}_2.w, weight_{quad}_3.w), vec4<f32>(value_{part}.w), sum_{part}_{quad});
#endfor
#endfor
        }
    }

#ifdef SLICES
#for part in 0..TILE
#for quad in 0..QUADS
    shared_sums[({part}u * QUADS + {quad}u) * LANES + lane] = sum_{part}_{quad};
#endfor
#endfor
    workgroupBarrier();
#for part in 0..TILE
#for quad in 0..QUADS
    sum_{part}_{quad} = vec4<f32>();
    for (var other = lane % WIDTH; other < LANES; other += WIDTH) {
        sum_{part}_{quad} += shared_sums[({part}u * QUADS + {quad}u) * LANES + other];
    }
#endfor
#endfor
#endif

#for part in 0..TILE
    if patch_{part} < params.patches {
        let rows = patch_rows(place_{part}.y, params.patches_y, params.window_y, params.offset_y, params.height);
        let columns = patch_rows(place_{part}.x, params.patches_x, params.window_x, params.offset_x, params.width);
#ifdef PATCHES_ONLY
#for quad in 0..QUADS
        var result_{quad} = sum_{part}_{quad} * params.factor;
        let at_{quad} = (input_quad + {quad}u) * params.patches + patch_{part};
#ifdef SLOPES
        let counts_{quad} = (vec4<u32>(slopes[at_{quad}]) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u);
        result_{quad} *= vec4<f32>(counts_{quad}) / f32(max((rows.y - rows.x) * (columns.y - columns.x), 1u));
#endif
#ifdef SCALE
        result_{quad} *= normalisation[4u * (input_quad + {quad}u)];
#endif
        input_gradient[at_{quad}] = result_{quad};
#endfor
#else
#ifdef SLICES
        for (var y = rows.x + slice; y < rows.y; y += SLICES) {
#else
        for (var y = rows.x; y < rows.y; y++) {
#endif
            let row = (place_{part}.image * params.height + y) * params.width;
            for (var x = columns.x; x < columns.y; x++) {
#for quad in 0..QUADS
                let pixel_{quad} = (input_quad + {quad}u) * params.pixels + row + x;
                var result_{quad} = sum_{part}_{quad};
#ifdef ACCUMULATE
                result_{quad} += input_gradient[pixel_{quad}];
#endif
#ifdef MASK
                let value_{quad} = value[pixel_{quad}];
                result_{quad} = select(vec4<f32>(), result_{quad}, (value_{quad} > vec4<f32>(params.low)) & (value_{quad} < vec4<f32>(params.high)));
#endif
#ifdef SLOPES
                let bits_{quad} = slopes[(input_quad + {quad}u) * ((params.pixels + 7u) / 8u) + (row + x) / 8u] >> ((row + x) % 8u * 4u);
                result_{quad} = select(vec4<f32>(), result_{quad}, (vec4<u32>(bits_{quad}) & vec4<u32>(1u, 2u, 4u, 8u)) != vec4<u32>());
#endif
#ifdef SCALE
                result_{quad} *= normalisation[4u * (input_quad + {quad}u)];
#endif
                input_gradient[pixel_{quad}] = result_{quad};
#endfor
            }
        }
#endif
    }
#endfor
}
