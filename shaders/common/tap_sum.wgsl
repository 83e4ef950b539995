// sum[o, i] = sum over taps t:  weight[o, t, i], for one vec4; `inner` vec4s of one tap of one output quad stand together.
//
// The importing file declares `params` with count, inner and taps, and the bindings `weight` and `tap_sums`.

fn sum_taps(at: u32) {
    if at >= params.count {
        return;
    }
    let first = at / params.inner * (params.taps - 1u) * params.inner + at;
    var total = vec4<f32>();
    for (var tap = 0u; tap < params.taps; tap++) {
        total += weight[first + tap * params.inner];
    }
    tap_sums[at] = total;
}
