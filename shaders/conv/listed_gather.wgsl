// For listed target pixels p, and no others:
// Forward:     target[o, p] = bias[o] + sum over taps t, input channels i:  weight[o, t, i] * source[i, p * stride + t * dilation - padding]
// TRANSPOSED:  target[i, p] = sum over taps t, output channels o:  weight[o, t, i] * source[o, (p + padding - t * dilation) / stride]
//              where that is a whole number and a marked pixel, which is the input gradient of what was listed
//
// Tile: an invocation computes TILE pixels of the list, 64 apart so that neighbours are neighbours in it, by QUADS target quads; weights have
// the same address in a whole workgroup. What a tap reads is found once for all source quads; a tap that reads nothing is passed over.
// Dispatch: [ceil(capacity / (64 * TILE)) * target_quads / QUADS] workgroups of 64, folded; those beyond the end of the list leave at once.
// SUBGROUP: the lanes of a subgroup of that size load a block of weights together, LOADS = ceil(4 * QUADS / SUBGROUP) vectors each, and
// broadcast them; without it every invocation loads all it needs.
// The source of the forward pass is read through its normalisation and activation, see common/source.wgsl.
#import common/grid
#import common/source

struct Params {
    quad_groups: u32,
    source_quads: u32,
    source_height: u32,
    source_width: u32,
    source_plane: u32,
    target_height: u32,
    target_width: u32,
    target_plane: u32,
    // Weights: block ((output_quad * taps_y * taps_x + tap) * input_quads + input_quad).
    input_quads: u32,
    taps_y: u32,
    taps_x: u32,
    stride_y: u32,
    stride_x: u32,
    dilation_y: u32,
    dilation_x: u32,
    padding_y: u32,
    padding_x: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> source: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> weight: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> list: array<u32>;
#ifdef TRANSPOSED
@group(0) @binding(4) var<storage, read_write> marks: array<u32>;
@group(0) @binding(5) var<storage, read_write> destination: array<vec4<f32>>;
#import common/mark
#else
#ifdef BIAS
@group(0) @binding(4) var<storage, read_write> bias: array<vec4<f32>>;
const AFTER_BIAS = 5;
#else
const AFTER_BIAS = 4;
#endif
#ifdef NORMALISE
@group(0) @binding(AFTER_BIAS) var<storage, read_write> normalisation: array<vec4<f32>>;
@group(0) @binding(AFTER_BIAS + 1) var<storage, read_write> destination: array<vec4<f32>>;
#else
@group(0) @binding(AFTER_BIAS) var<storage, read_write> destination: array<vec4<f32>>;
#endif
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
    let listed = list[0];
    if pixel_group * (64u * TILE) >= listed {
        return;
    }
#for pixel in 0..TILE
    let entry_{pixel} = pixel_group * (64u * TILE) + {pixel}u * 64u + lane;
    // Surplus invocations repeat the last entry and do not store.
    let pixel_{pixel} = list[2u + min(entry_{pixel}, listed - 1u)];
    let row_{pixel} = pixel_{pixel} / params.target_width;
    let image_{pixel} = row_{pixel} / params.target_height;
    let y_{pixel} = row_{pixel} - image_{pixel} * params.target_height;
    let x_{pixel} = pixel_{pixel} - row_{pixel} * params.target_width;
#for quad in 0..QUADS
#ifdef BIAS
    var sum_{pixel}_{quad} = bias[target_quad + {quad}u];
#else
    var sum_{pixel}_{quad} = vec4<f32>();
#endif
#endfor
#endfor

    let taps = params.taps_y * params.taps_x;
    for (var tap = 0u; tap < taps; tap++) {
        let tap_y = tap / params.taps_x * params.dilation_y;
        let tap_x = tap % params.taps_x * params.dilation_x;
        var reads = false;
#for pixel in 0..TILE
#ifdef TRANSPOSED
        let at_y_{pixel} = met(y_{pixel} + params.padding_y, tap_y, params.stride_y);
        let at_x_{pixel} = met(x_{pixel} + params.padding_x, tap_x, params.stride_x);
#else
        let at_y_{pixel} = y_{pixel} * params.stride_y + tap_y - params.padding_y;
        let at_x_{pixel} = x_{pixel} * params.stride_x + tap_x - params.padding_x;
#endif
        let in_map_{pixel} = at_y_{pixel} < params.source_height && at_x_{pixel} < params.source_width;
        let place_{pixel} = select(0u, (image_{pixel} * params.source_height + at_y_{pixel}) * params.source_width + at_x_{pixel}, in_map_{pixel});
#ifdef TRANSPOSED
        let inside_{pixel} = in_map_{pixel} && is_marked(place_{pixel});
#else
        let inside_{pixel} = in_map_{pixel};
#endif
        reads = reads || inside_{pixel};
#endfor
#ifdef SUBGROUP
        reads = subgroupAny(reads);
#endif
        if reads {
            for (var source_quad = 0u; source_quad < params.source_quads; source_quad++) {
#ifdef TRANSPOSED
                let scaling = Scaling();
                let block = ((source_quad * taps + tap) * params.input_quads + target_quad) * 4u;
                let step = 4u;
#else
                let scaling = scaling_of(source_quad);
                let block = ((target_quad * taps + tap) * params.input_quads + source_quad) * 4u;
                let step = taps * params.input_quads * 4u;
#endif
#ifdef SUBGROUP
                // Each lane loads one vector of the blocks; the subgroup shares them.
                var loaded: array<vec4<f32>, LOADS>;
#for load in 0..LOADS
                let vector_{load} = min(subgroup_lane + {load}u * SUBGROUP, QUADS * 4u - 1u);
                loaded[{load}] = weight[block + vector_{load} / 4u * step + vector_{load} % 4u];
#endfor
#endif
#for pixel in 0..TILE
                let value_{pixel} = select(vec4<f32>(), load_source(scaling, source_quad * params.source_plane + place_{pixel}), inside_{pixel});
#endfor
#for quad in 0..QUADS
                {
#for row in 0..4
#ifdef SUBGROUP
                    let weight_{row} = subgroupBroadcast(loaded[({quad}u * 4u + {row}u) / SUBGROUP], ({quad}u * 4u + {row}u) % SUBGROUP);
#else
                    let weight_{row} = weight[block + {quad}u * step + {row}u];
#endif
#endfor
#for pixel in 0..TILE
#ifdef TRANSPOSED
                    sum_{pixel}_{quad} = fma(vec4<f32>(weight_0.x, weight_1.x, weight_2.x, weight_3.x), vec4<f32>(value_{pixel}.x), sum_{pixel}_{quad});
                    sum_{pixel}_{quad} = fma(vec4<f32>(weight_0.y, weight_1.y, weight_2.y, weight_3.y), vec4<f32>(value_{pixel}.y), sum_{pixel}_{quad});
                    sum_{pixel}_{quad} = fma(vec4<f32>(weight_0.z, weight_1.z, weight_2.z, weight_3.z), vec4<f32>(value_{pixel}.z), sum_{pixel}_{quad});
                    sum_{pixel}_{quad} = fma(vec4<f32>(weight_0.w, weight_1.w, weight_2.w, weight_3.w), vec4<f32>(value_{pixel}.w), sum_{pixel}_{quad});
#else
                    sum_{pixel}_{quad} = fma(weight_0, vec4<f32>(value_{pixel}.x), sum_{pixel}_{quad});
                    sum_{pixel}_{quad} = fma(weight_1, vec4<f32>(value_{pixel}.y), sum_{pixel}_{quad});
                    sum_{pixel}_{quad} = fma(weight_2, vec4<f32>(value_{pixel}.z), sum_{pixel}_{quad});
                    sum_{pixel}_{quad} = fma(weight_3, vec4<f32>(value_{pixel}.w), sum_{pixel}_{quad});
#endif
#endfor
                }
#endfor
            }
        }
    }

#for pixel in 0..TILE
    if entry_{pixel} < listed {
#for quad in 0..QUADS
#ifdef ACCUMULATE
        destination[(target_quad + {quad}u) * params.target_plane + pixel_{pixel}] += sum_{pixel}_{quad};
#else
        destination[(target_quad + {quad}u) * params.target_plane + pixel_{pixel}] = sum_{pixel}_{quad};
#endif
#endfor
    }
#endfor
}
