// Count, mean and sum of squared deviations of LANES lanes, merged pairwise in a fixed order.
#import common/halves

var<workgroup> lane_count: array<f32, LANES>;
var<workgroup> lane_mean: array<vec4<f32>, LANES>;
var<workgroup> lane_squares: array<vec4<f32>, LANES>;

// Leaves the moments of the first `lanes` lanes in lane 0. Every lane must have written its own before, and take part.
fn merge_moments(lane: u32, lanes: u32) {
    for (var half = first_half(lanes); half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            let count = lane_count[lane];
            let other_count = lane_count[lane + half];
            let total = max(count + other_count, 1.0);
            let delta = lane_mean[lane + half] - lane_mean[lane];
            lane_mean[lane] += delta * (other_count / total);
            lane_squares[lane] += lane_squares[lane + half] + delta * delta * (count * other_count / total);
            lane_count[lane] = count + other_count;
        }
    }
}
