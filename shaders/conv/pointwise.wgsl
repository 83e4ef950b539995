// Forward:     target[o, p] = bias[o] + sum over input channels i:  weight[o, i] * source[i, p]       (1x1, stride 1, no padding)
// TRANSPOSED:  target[i, p] = sum over output channels o:  weight[o, i] * source[o, p]                (its input gradient)
//
// Tile: an invocation computes TILE pixels, 64 apart so that neighbours read neighbouring memory, by QUADS target quads; weights have the
// same address in a whole workgroup.
// Dispatch: [ceil(pixels / (64 * TILE)) * target_quads / QUADS] workgroups of 64, folded.
// SUBGROUP: the lanes of a subgroup of that size load a block of weights together, LOADS = ceil(4 * QUADS / SUBGROUP) vectors each, and
// broadcast them; without it every invocation loads all it needs.
// The source is read through its normalisation and activation, see common/source.wgsl.
// MOMENTS (forward): the statistics of the output are taken as well, see common/group_moments.wgsl.
// DERIVATIVE: the complete input gradient is multiplied with the derivative of the activation behind which the input stood.
#import common/grid
#import common/source

struct Params {
    pixels: u32,
    quad_groups: u32,
    source_quads: u32,
    // Input quads of a block row: block (output_quad * slots + input_quad).
    slots: u32,
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
#ifdef DERIVATIVE
@group(0) @binding(AFTER_NORMALISATION) var<storage, read_write> activated: array<vec4<f32>>;
@group(0) @binding(AFTER_NORMALISATION + 1) var<storage, read_write> destination: array<vec4<f32>>;
#else
@group(0) @binding(AFTER_NORMALISATION) var<storage, read_write> destination: array<vec4<f32>>;
#endif
#ifdef MOMENTS
@group(0) @binding(AFTER_NORMALISATION + 1) var<storage, read_write> moments: array<vec4<f32>>;
const LANES: u32 = 64u;
#import common/group_moments
#endif

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
#ifdef SUBGROUP
    @builtin(subgroup_invocation_id) subgroup_lane: u32,
#endif
) {
    let group = flat_workgroup(workgroup, workgroups);
    let pixel_group = group / params.quad_groups;
    let target_quad = (group - pixel_group * params.quad_groups) * QUADS;
    let first_pixel = pixel_group * (64u * TILE) + lane;

#for pixel in 0..TILE
    let pixel_{pixel} = first_pixel + {pixel}u * 64u;
    // Surplus pixels repeat the last one and are not stored.
    let source_pixel_{pixel} = min(pixel_{pixel}, params.pixels - 1u);
#for quad in 0..QUADS
#ifdef BIAS
    var sum_{pixel}_{quad} = bias[target_quad + {quad}u];
#else
    var sum_{pixel}_{quad} = vec4<f32>();
#endif
#endfor
#endfor

    for (var source_quad = 0u; source_quad < params.source_quads; source_quad++) {
#ifdef DERIVATIVE
        let scaling = Scaling();
#else
        let scaling = scaling_of(source_quad);
#endif
#for pixel in 0..TILE
        let value_{pixel} = load_source(scaling, source_quad * params.pixels + source_pixel_{pixel});
#endfor
#ifdef SUBGROUP
        // Each lane loads one vector of the blocks; the subgroup shares them.
        var loaded: array<vec4<f32>, LOADS>;
#for load in 0..LOADS
        let entry_{load} = min(subgroup_lane + {load}u * SUBGROUP, QUADS * 4u - 1u);
#ifdef TRANSPOSED
        loaded[{load}] = weight[(source_quad * params.slots + target_quad) * 4u + entry_{load}];
#else
        loaded[{load}] = weight[((target_quad + entry_{load} / 4u) * params.slots + source_quad) * 4u + entry_{load} % 4u];
#endif
#endfor
#endif
#for quad in 0..QUADS
#ifdef SUBGROUP
#for row in 0..4
        let weight_{quad}_{row} = subgroupBroadcast(loaded[({quad}u * 4u + {row}u) / SUBGROUP], ({quad}u * 4u + {row}u) % SUBGROUP);
#endfor
#else
#ifdef TRANSPOSED
        let block_{quad} = (source_quad * params.slots + target_quad + {quad}u) * 4u;
#else
        let block_{quad} = ((target_quad + {quad}u) * params.slots + source_quad) * 4u;
#endif
#for row in 0..4
        let weight_{quad}_{row} = weight[block_{quad} + {row}u];
#endfor
#endif
#for pixel in 0..TILE
#ifdef TRANSPOSED
        sum_{pixel}_{quad} = fma(vec4<f32>(weight_{quad}_0.x, weight_{quad}_1.x, weight_{quad}_2.x, weight_{quad}_3.x), vec4<f32>(value_{pixel}.x), sum_{pixel}_{quad});
        sum_{pixel}_{quad} = fma(vec4<f32>(weight_{quad}_0.y, weight_{quad}_1.y, weight_{quad}_2.y, weight_{quad}_3.y), vec4<f32>(value_{pixel}.y), sum_{pixel}_{quad});
        sum_{pixel}_{quad} = fma(vec4<f32>(weight_{quad}_0.z, weight_{quad}_1.z, weight_{quad}_2.z, weight_{quad}_3.z), vec4<f32>(value_{pixel}.z), sum_{pixel}_{quad});
        sum_{pixel}_{quad} = fma(vec4<f32>(weight_{quad}_0.w, weight_{quad}_1.w, weight_{quad}_2.w, weight_{quad}_3.w), vec4<f32>(value_{pixel}.w), sum_{pixel}_{quad});
#else
        sum_{pixel}_{quad} = fma(weight_{quad}_0, vec4<f32>(value_{pixel}.x), sum_{pixel}_{quad});
        sum_{pixel}_{quad} = fma(weight_{quad}_1, vec4<f32>(value_{pixel}.y), sum_{pixel}_{quad});
        sum_{pixel}_{quad} = fma(weight_{quad}_2, vec4<f32>(value_{pixel}.z), sum_{pixel}_{quad});
        sum_{pixel}_{quad} = fma(weight_{quad}_3, vec4<f32>(value_{pixel}.w), sum_{pixel}_{quad});
#endif
#endfor
#endfor
    }

#ifdef MOMENTS
    let live = min((max(params.pixels, first_pixel) - first_pixel + 63u) / 64u, TILE);
#for quad in 0..QUADS
    var stored_{quad}: array<vec4<f32>, TILE>;
#for pixel in 0..TILE
    stored_{quad}[{pixel}] = sum_{pixel}_{quad};
#endfor
    note_moments(lane, {quad}u, moments_of(stored_{quad}, live));
#endfor
    store_moments(lane, pixel_group, (params.pixels + 64u * TILE - 1u) / (64u * TILE), target_quad, params.quad_groups * QUADS);
#endif
#ifdef DERIVATIVE
#for quad in 0..QUADS
    let target_scaling_{quad} = scaling_of(target_quad + {quad}u);
#endfor
#endif
#for pixel in 0..TILE
    if pixel_{pixel} < params.pixels {
#for quad in 0..QUADS
        {
            let element = (target_quad + {quad}u) * params.pixels + pixel_{pixel};
            var result = sum_{pixel}_{quad};
#ifdef ACCUMULATE
            result += destination[element];
#endif
#ifdef DERIVATIVE
            result = before_activation(target_scaling_{quad}, element, result);
#endif
            destination[element] = result;
        }
#endfor
    }
#endfor
}
