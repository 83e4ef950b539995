// gradient[o] = sum over output pixels p:  output_gradient[o, p];  LISTED: over those of a list (see list_pixels.wgsl)
//
// Tile: a workgroup sums one quad over its share of the pixels; its 64 invocations take pixels in turn and add up in workgroup memory, in a
// fixed order. Share `split` writes to partial[split]; sum_partials.wgsl adds the shares.
// Dispatch: [quads * splits] workgroups of 64, folded.
#import common/grid

struct Params {
    groups: u32,
    quads: u32,
    pixels: u32,
    // A multiple of 64; of the pixels, or of the most that can be listed.
    pixels_per_split: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> output_gradient: array<vec4<f32>>;
#ifdef LISTED
@group(0) @binding(2) var<storage, read_write> list: array<u32>;
@group(0) @binding(3) var<storage, read_write> partial: array<vec4<f32>>;
#else
@group(0) @binding(2) var<storage, read_write> partial: array<vec4<f32>>;
#endif

const LANES: u32 = 64u;

var<workgroup> lane_sums: array<vec4<f32>, LANES>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = flat_workgroup(workgroup, workgroups);
    let group_used = min(group, params.groups - 1u);
    let quad = group_used % params.quads;
    let split = group_used / params.quads;
    var sum = vec4<f32>();
#ifdef LISTED
    let end = min((split + 1u) * params.pixels_per_split, list[0]);
    for (var entry = split * params.pixels_per_split + lane; entry < end; entry += LANES) {
        sum += output_gradient[quad * params.pixels + list[2u + entry]];
    }
#else
    for (var done = 0u; done < params.pixels_per_split; done += LANES) {
        let pixel = split * params.pixels_per_split + done + lane;
        let live = pixel < params.pixels;
        sum += select(vec4<f32>(), output_gradient[quad * params.pixels + select(0u, pixel, live)], live);
    }
#endif
    lane_sums[lane] = sum;
    workgroupBarrier();
    if lane == 0u && group < params.groups {
        var total = vec4<f32>();
        for (var other = 0u; other < LANES; other++) {
            total += lane_sums[other];
        }
        partial[split * params.quads + quad] = total;
    }
}
