// Two sums over 256 lanes, in a fixed order.

var<workgroup> lane_first: array<vec4<f32>, 256>;
var<workgroup> lane_second: array<vec4<f32>, 256>;

// Leaves the sums of all lanes in lane 0. Every lane must have written its own before, and take part.
fn sum_pairs(lane: u32) {
    for (var half = 128u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            lane_first[lane] += lane_first[lane + half];
            lane_second[lane] += lane_second[lane + half];
        }
    }
}
