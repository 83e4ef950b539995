// Two sums over 256 lanes, in a fixed order.

var<workgroup> lane_first: array<vec4<f32>, 256>;
var<workgroup> lane_second: array<vec4<f32>, 256>;

// Leaves the sums of all lanes in lane 0. Every lane must have written its own before, and take part. `params.slices` is above 0.
fn sum_pairs(lane: u32) {
    // 128, as a number no compiler knows: unrolled, eight barriers take a software device's compiler several times as long as one.
    let lanes = select(128u, 0u, params.slices == 0u);
    for (var half = lanes; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            lane_first[lane] += lane_first[lane + half];
            lane_second[lane] += lane_second[lane + half];
        }
    }
}
