// SGD where the gradient is the same at every tap of a weight, so that gradient and momentum are held once a pair of channels:
// g = gradient_scale * gradient
// MOMENTUM:           momentum = factor * momentum + g;  step = momentum
// MOMENTUM, NESTEROV: momentum = factor * momentum + g;  step = g + factor * momentum
// parameter[t] -= learning_rate * (step + weight_decay * parameter[t]) for every tap t; the decay differs from tap to tap, so it is decoupled.
// Nothing changes while control.halted or control.skipped is set.
//
// Tile: one vec4 of the gradient an invocation; `inner` vec4s of one tap stand together. Dispatch: [ceil(count / 256)] workgroups of 256, folded.
#import common/grid
#import common/control

struct Params {
    // vec4s of the gradient.
    count: u32,
    inner: u32,
    taps: u32,
    weight_decay: f32,
    factor: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> control: Control;
@group(0) @binding(2) var<storage, read_write> gradient: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> parameter: array<vec4<f32>>;
#ifdef MOMENTUM
@group(0) @binding(4) var<storage, read_write> momentum: array<vec4<f32>>;
#endif

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = flat_workgroup(workgroup, workgroups) * 256u + lane;
    if (control.halted | control.skipped) != 0u || at >= params.count {
        return;
    }
    let slope = control.gradient_scale * gradient[at];
    var step = slope;
#ifdef MOMENTUM
    let momentum_after = params.factor * momentum[at] + slope;
    momentum[at] = momentum_after;
#ifdef NESTEROV
    step = slope + params.factor * momentum_after;
#else
    step = momentum_after;
#endif
#endif
    let first = at / params.inner * (params.taps - 1u) * params.inner + at;
    for (var tap = 0u; tap < params.taps; tap++) {
        let before = parameter[first + tap * params.inner];
        parameter[first + tap * params.inner] = before - control.learning_rate * (step + params.weight_decay * before);
    }
}
