// chain_c = fma(chain_c, multiplier, addend), 32 * rounds times;  output[invocation] = sum over c of chain_c
//
// Measures arithmetic alone: CHAINS sequences of four numbers that do not depend on each other stay in registers, and what they end in
// is written once, so that none is optimised away.
// Tile: an invocation computes CHAINS chains. Dispatch: [groups] workgroups of 64, folded.
#import common/grid

struct Params {
    groups: u32,
    rounds: u32,
    multiplier: f32,
    addend: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> output: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = flat_workgroup(workgroup, workgroups);
    if group >= params.groups {
        return;
    }
    let multiplier = vec4<f32>(params.multiplier);
    let addend = vec4<f32>(params.addend);
#for chain in 0..CHAINS
    // No two chains start alike, or one could stand for both.
    var chain_{chain} = vec4<f32>(0.0, 0.25, 0.5, 0.75) + vec4<f32>(f32(lane) + {chain}.0);
#endfor
    for (var round = 0u; round < params.rounds; round++) {
#for step in 0..32
#for chain in 0..CHAINS
        chain_{chain} = fma(chain_{chain}, multiplier, addend);
#endfor
#endfor
    }
    var total = vec4<f32>();
#for chain in 0..CHAINS
    total += chain_{chain};
#endfor
    output[group * 64u + lane] = total;
}
