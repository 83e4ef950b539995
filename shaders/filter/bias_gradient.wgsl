// gradient[o] = sum over patches p:  pixels of p * factor * average[o, p]       (exact: the average was taken over those pixels)
//
// Tile: a workgroup sums one quad; its LANES invocations take patches in turn and add up in workgroup memory, in a fixed order.
// Dispatch: [quads] workgroups of LANES, folded.
#import common/grid
#import common/patches

struct Params {
    quads: u32,
    patches: u32,
    height: u32,
    width: u32,
    patches_y: u32,
    patches_x: u32,
    window_y: u32,
    window_x: u32,
    offset_y: i32,
    offset_x: i32,
    factor: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> average: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> gradient: array<vec4<f32>>;

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
        let place = patch_place(at, params.patches_y, params.patches_x);
        let rows = patch_rows(place.y, params.patches_y, params.window_y, params.offset_y, params.height);
        let columns = patch_rows(place.x, params.patches_x, params.window_x, params.offset_x, params.width);
        let pixels = f32((rows.y - rows.x) * (columns.y - columns.x));
        sum = fma(average[quad * params.patches + at], vec4<f32>(pixels), sum);
    }
    lane_sums[lane] = sum;
    workgroupBarrier();
    if lane == 0u && group < params.quads {
        var total = vec4<f32>();
        for (var other = 0u; other < LANES; other++) {
            total += lane_sums[other];
        }
        gradient[quad] = total * params.factor;
    }
}
