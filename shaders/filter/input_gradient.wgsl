// input_gradient[i, pixel] = sum over taps t and output channels o:  weight[o, t, i] * average[o, patch of the pixel + first - t * step]
// With one tap, the sum of all, this is a matrix product over the patches; with several, patches outside count as zero.
// ACCUMULATE: added to what is there. MASK: the result is zero where not low < value < high, the derivative of the layer before.
// SLOPES: the same by bits that ops/keep_slopes.wgsl kept. SCALE: times the scale of the normalisation before that layer.
// PATCHES: not written to the pixels but once a patch, as the mean over its pixels, times `factor`: the patch averages of the layer before, if
// that is filtered by the same patches. SLOPES then are the counts that patch_pool.wgsl made: of how many pixels the slope is 1.
//
// Tile: an invocation computes TILE patches, LANES apart so that neighbours read neighbouring memory, by QUADS input quads, and writes each
// to all pixels of its patch.
// Dispatch: [ceil(patches / (LANES * TILE)) * input_quads / QUADS] workgroups of LANES, folded.
// SUBGROUP: the lanes of a subgroup of that size load a block of weights together, LOADS = ceil(4 * QUADS / SUBGROUP) vectors each, and
// broadcast them; without it every invocation loads all it needs.
#import common/grid
#import common/patches

struct Params {
    // Of all images.
    patches: u32,
    pixels: u32,
    quad_groups: u32,
    output_quads: u32,
    // Input quads of a block row: block ((output_quad * taps + tap) * slots + input_quad).
    slots: u32,
    taps: u32,
    taps_x: u32,
    step_y: u32,
    step_x: u32,
    first_y: u32,
    first_x: u32,
    patches_y: u32,
    patches_x: u32,
    height: u32,
    width: u32,
    window_y: u32,
    window_x: u32,
    offset_y: i32,
    offset_x: i32,
    low: f32,
    high: f32,
    factor: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> average: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> weight: array<vec4<f32>>;
#ifdef MASK
@group(0) @binding(3) var<storage, read_write> value: array<vec4<f32>>;
const AFTER_MASK = 4;
#else
#ifdef SLOPES
@group(0) @binding(3) var<storage, read_write> slopes: array<u32>;
const AFTER_MASK = 4;
#else
const AFTER_MASK = 3;
#endif
#endif
#ifdef SCALE
@group(0) @binding(AFTER_MASK) var<storage, read_write> normalisation: array<vec4<f32>>;
const AFTER_SCALE = AFTER_MASK + 1;
#else
const AFTER_SCALE = AFTER_MASK;
#endif
@group(0) @binding(AFTER_SCALE) var<storage, read_write> input_gradient: array<vec4<f32>>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
#ifdef SUBGROUP
    @builtin(subgroup_invocation_id) subgroup_lane: u32,
#endif
) {
    let group = flat_workgroup(workgroup, workgroups);
    let patch_group = group / params.quad_groups;
    let input_quad = (group - patch_group * params.quad_groups) * QUADS;
    let first_patch = patch_group * (LANES * TILE) + lane;

#for part in 0..TILE
    let patch_{part} = first_patch + {part}u * LANES;
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
        for (var output_quad = 0u; output_quad < params.output_quads; output_quad++) {
#for part in 0..TILE
            let value_{part} = select(vec4<f32>(), average[output_quad * params.patches + from_{part}], inside_{part});
#endfor
            let block = ((output_quad * params.taps + tap) * params.slots + input_quad) * 4u;
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

#for part in 0..TILE
    if patch_{part} < params.patches {
        let rows = patch_rows(place_{part}.y, params.patches_y, params.window_y, params.offset_y, params.height);
        let columns = patch_rows(place_{part}.x, params.patches_x, params.window_x, params.offset_x, params.width);
#ifdef PATCHES
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
        for (var y = rows.x; y < rows.y; y++) {
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
