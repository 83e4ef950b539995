// g = gradient_scale * gradient + weight_decay * parameter
// MOMENTUM:           momentum = factor * momentum + g;  step = momentum
// MOMENTUM, NESTEROV: momentum = factor * momentum + g;  step = g + factor * momentum
// parameter -= learning_rate * step; nothing changes while control.halted or control.skipped is set, nor beyond element `count`.
//
// TABLE: many parameters at once, see common/table.wgsl.
// Tile: one quad of elements an invocation. Dispatch: [ceil(ceil(count / 4) / 256)] workgroups of 256, folded.
#import common/grid
#import common/control

struct Params {
#ifndef TABLE
    count: u32,
#endif
    weight_decay: f32,
#ifdef MOMENTUM
    factor: f32,
#endif
#ifdef TABLE
    entries: array<vec4<u32>, 128>,
#endif
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> control: Control;
@group(0) @binding(2) var<storage, read_write> gradient: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> parameter: array<vec4<f32>>;
#ifdef MOMENTUM
@group(0) @binding(4) var<storage, read_write> momentum: array<vec4<f32>>;
#endif

#import common/table

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = flat_workgroup(workgroup, workgroups);
#ifdef TABLE
    let entry = entry_of(group);
#else
    let entry = Entry(0u, params.count, 0u, 0u, 0u, 0u, 0u);
#endif
    let quad = (group - entry.first_group) * 256u + lane;
    if (control.halted | control.skipped) != 0u || quad >= (entry.count + 3u) / 4u {
        return;
    }
    let inside = vec4(quad * 4u) + vec4(0u, 1u, 2u, 3u) < vec4(entry.count);
    let before = parameter[entry.parameter + quad];
    let slope = control.gradient_scale * gradient[entry.gradient + quad] + params.weight_decay * before;
    var step = slope;
#ifdef MOMENTUM
    let momentum_before = momentum[entry.first_state + quad];
    let momentum_after = params.factor * momentum_before + slope;
    momentum[entry.first_state + quad] = select(momentum_before, momentum_after, inside);
#ifdef NESTEROV
    step = slope + params.factor * momentum_after;
#else
    step = momentum_after;
#endif
#endif
    parameter[entry.parameter + quad] = select(before, before - control.learning_rate * step, inside);
}
