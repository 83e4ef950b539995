// gradient[o, i] = sum over pixels p:  output_gradient[o, p] * input[i, p], the weight gradient of a 1x1 kernel of stride 1
//
// Tile: a workgroup is a subgroup of LANES, each of which has an input quad (with BY_OUTPUT an output quad) and sums its blocks with QUADS quads
// of the other side over its share of the pixels. Of every LANES pixels, a lane loads its own quad of all of them and the other quads of
// one, which the subgroup shares: a load meets many products, and nothing is added up over lanes. Share `split` of `splits` writes to
// partial[split]; sum_partials.wgsl adds the shares.
// Dispatch: [own_groups * other_groups * splits] workgroups of LANES, folded.
// The input is read through its normalisation and activation, see common/source.wgsl; with STASH it is decoded as well.
#import common/grid
#import common/source

struct Params {
    groups: u32,
    // Groups of LANES quads of the side that lanes have a quad of each, and of QUADS quads of the other.
    own_groups: u32,
    other_groups: u32,
    pixels: u32,
    // A multiple of LANES.
    pixels_per_split: u32,
    output_quads: u32,
    slots: u32,
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

fn load_input(scaling: Scaling, quad: u32, pixel: u32) -> vec4<f32> {
#ifdef STASH
    return load_stashed(scaling, quad, pixel, params.slots, params.pixels);
#else
    return load_source(scaling, quad * params.pixels + pixel);
#endif
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let group = flat_workgroup(workgroup, workgroups);
    let rest = min(group, params.groups - 1u) / params.own_groups;
    let own = (group % params.own_groups) * LANES + lane;
    let split = rest / params.other_groups;
    let first_other = (rest - split * params.other_groups) * QUADS;
    // Surplus quads repeat the last one and are not stored.
#ifdef BY_OUTPUT
    let own_at = min(own, params.output_quads - 1u) * params.pixels;
#for other in 0..QUADS
    let other_{other} = min(first_other + {other}u, params.slots - 1u);
    let scaling_{other} = scaling_of(other_{other});
#endfor
#else
    let own_quad = min(own, params.slots - 1u);
    let scaling = scaling_of(own_quad);
#for other in 0..QUADS
    let other_{other} = min(first_other + {other}u, params.output_quads - 1u);
#endfor
#endif

    // Of an input quad by an output quad: the halves of the input channels, and one of a half.
#for other in 0..QUADS
#for half in 0..2
#for one in 0..2
    var block_{other}_{half}_{one} = vec4<f32>();
#endfor
#endfor
#endfor

    let last = params.pixels - 1u;
    let first = split * params.pixels_per_split;
    let end = min(first + params.pixels_per_split, params.pixels);
    for (var at = first; at < end; at += LANES) {
        // Surplus pixels are the last one times zero.
        let used = at + lane <= last;
        let pixel = min(at + lane, last);
#for other in 0..QUADS
#ifdef BY_OUTPUT
        let value_{other} = select(vec4<f32>(), load_input(scaling_{other}, other_{other}, pixel), used);
#else
        let value_{other} = select(vec4<f32>(), output_gradient[other_{other} * params.pixels + pixel], used);
#endif
#endfor
#for step in 0..LANES
#ifdef BY_OUTPUT
        let own_{step} = output_gradient[own_at + min(at + {step}u, last)];
#else
        let own_{step} = load_input(scaling, own_quad, min(at + {step}u, last));
#endif
#endfor
#for other in 0..QUADS
#for step in 0..LANES
        let shared_{other}_{step} = subgroupBroadcast(value_{other}, {step}u);
#endfor
        // Two input channels at a time: eight sums stay in registers over all pixels, and a gradient meets two values.
#for half in 0..2
#for step in 0..LANES
#for one in 0..2
#ifdef BY_OUTPUT
        block_{other}_{half}_{one} = fma(own_{step}, vec4<f32>(shared_{other}_{step}[{half} * 2 + {one}]), block_{other}_{half}_{one});
#else
        block_{other}_{half}_{one} = fma(shared_{other}_{step}, vec4<f32>(own_{step}[{half} * 2 + {one}]), block_{other}_{half}_{one});
#endif
#endfor
#endfor
#endfor
#endfor
    }

    if group >= params.groups {
        return;
    }
    let weights = params.output_quads * params.slots * 4u;
    for (var channel = 0u; channel < 4u; channel++) {
#for other in 0..QUADS
#ifdef BY_OUTPUT
        let output_quad_{other} = own;
        let slot_{other} = first_other + {other}u;
#else
        let output_quad_{other} = first_other + {other}u;
        let slot_{other} = own;
#endif
        if output_quad_{other} < params.output_quads && slot_{other} < params.slots {
            partial[split * weights + (output_quad_{other} * params.slots + slot_{other}) * 4u + channel] = block_{other}_0_0;
        }
        block_{other}_0_0 = block_{other}_0_1;
        block_{other}_0_1 = block_{other}_1_0;
        block_{other}_1_0 = block_{other}_1_1;
#endfor
    }
}
