// gradient[c, t] = sum over patches p:  average[c, p] * sum[c, p]     for every tap t
//
// Tile: a workgroup sums one quad; its LANES invocations take patches in turn and add up in workgroup memory, in a fixed order.
// Dispatch: [quads] workgroups of LANES, folded.
#import common/grid

struct Params {
    quads: u32,
    patches: u32,
    taps: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> patch_sums: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> average: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> gradient: array<vec4<f32>>;

var<workgroup> lane_sums: array<vec4<f32>, LANES>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = flat_workgroup(workgroup, workgroups);
    let quad = min(group, params.quads - 1u);
    var sum = vec4<f32>();
    for (var at = lane; at < params.patches; at += LANES) {
        sum = fma(average[quad * params.patches + at], patch_sums[quad * params.patches + at], sum);
    }
    lane_sums[lane] = sum;
    workgroupBarrier();
    if lane == 0u && group < params.quads {
        var total = vec4<f32>();
        for (var other = 0u; other < LANES; other++) {
            total += lane_sums[other];
        }
        for (var tap = 0u; tap < params.taps; tap++) {
            gradient[quad * params.taps + tap] = total;
        }
    }
}
