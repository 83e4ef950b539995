// Count, mean and sum of squared deviations of 256 lanes, merged pairwise in a fixed order.

var<workgroup> lane_count: array<f32, 256>;
var<workgroup> lane_mean: array<vec4<f32>, 256>;
var<workgroup> lane_squares: array<vec4<f32>, 256>;

// Leaves the moments of all lanes in lane 0. Every lane must have written its own before, and take part. `first_half` is 128, as a number no
// compiler knows: unrolled, eight barriers take a software device's compiler several times as long as one.
fn merge_moments(lane: u32, first_half: u32) {
    for (var half = first_half; half > 0u; half /= 2u) {
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
