// g = gradient_scale * gradient + weight_decay * parameter
// MOMENTUM:           momentum = factor * momentum + g;  step = momentum
// MOMENTUM, NESTEROV: momentum = factor * momentum + g;  step = g + factor * momentum
// parameter -= learning_rate * step; nothing changes while control.halted is set, nor beyond element `count`.
//
// Tile: one quad of elements an invocation. Dispatch: [ceil(ceil(count / 4) / 256)] workgroups of 256, folded.
#import common/grid
#import common/control

struct Params {
    count: u32,
    weight_decay: f32,
#ifdef MOMENTUM
    factor: f32,
#endif
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
    let quad = flat_workgroup(workgroup, workgroups) * 256u + lane;
    if control.halted != 0u || quad >= (params.count + 3u) / 4u {
        return;
    }
    let inside = vec4(quad * 4u) + vec4(0u, 1u, 2u, 3u) < vec4(params.count);
    let before = parameter[quad];
    let slope = control.gradient_scale * gradient[quad] + params.weight_decay * before;
    var step = slope;
#ifdef MOMENTUM
    let momentum_before = momentum[quad];
    let momentum_after = params.factor * momentum_before + slope;
    momentum[quad] = select(momentum_before, momentum_after, inside);
#ifdef NESTEROV
    step = slope + params.factor * momentum_after;
#else
    step = momentum_after;
#endif
#endif
    parameter[quad] = select(before, before - control.learning_rate * step, inside);
}
