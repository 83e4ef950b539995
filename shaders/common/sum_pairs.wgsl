// Two sums over LANES lanes, in a fixed order.
#import common/halves

var<workgroup> lane_first: array<vec4<f32>, LANES>;
var<workgroup> lane_second: array<vec4<f32>, LANES>;

// Leaves the sums of the first `lanes` lanes in lane 0. Every lane must have written its own before, and take part.
fn sum_pairs(lane: u32, lanes: u32) {
    for (var half = first_half(lanes); half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            lane_first[lane] += lane_first[lane + half];
            lane_second[lane] += lane_second[lane + half];
        }
    }
}
