// g = gradient_scale * gradient
// DECOUPLED (AdamW): parameter -= learning_rate * weight_decay * parameter;  otherwise: g += weight_decay * parameter
// mean += first_rest * (g - mean);  square = second_beta * square + second_rest * g^2,  where rest = 1 - beta
// parameter -= learning_rate / first_correction * mean / (sqrt(square / second_correction) + epsilon)
// Nothing changes while control.halted or control.skipped is set, nor beyond element `count`.
//
// TABLE: many parameters at once, see common/table.wgsl; both states lie in what is bound as `mean`.
// Tile: one quad of elements an invocation. Dispatch: [ceil(ceil(count / 4) / 256)] workgroups of 256, folded.
#import common/grid
#import common/control

struct Params {
#ifndef TABLE
    count: u32,
#endif
    weight_decay: f32,
    first_rest: f32,
    second_beta: f32,
    second_rest: f32,
    epsilon: f32,
#ifdef TABLE
    entries: array<vec4<u32>, 128>,
#endif
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> control: Control;
@group(0) @binding(2) var<storage, read_write> gradient: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> parameter: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> mean: array<vec4<f32>>;
#ifndef TABLE
@group(0) @binding(5) var<storage, read_write> square: array<vec4<f32>>;
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
    var slope = control.gradient_scale * gradient[entry.gradient + quad];
    var decayed = before;
#ifdef DECOUPLED
    decayed -= control.learning_rate * params.weight_decay * before;
#else
    slope += params.weight_decay * before;
#endif
    let mean_before = mean[entry.first_state + quad];
    let mean_after = mean_before + params.first_rest * (slope - mean_before);
#ifdef TABLE
    let square_before = mean[entry.second_state + quad];
#else
    let square_before = square[quad];
#endif
    let square_after = params.second_beta * square_before + params.second_rest * slope * slope;
    let spread = sqrt(square_after) / sqrt(control.second_correction) + vec4(params.epsilon);
    let after = decayed - control.learning_rate / control.first_correction * mean_after / spread;
    mean[entry.first_state + quad] = select(mean_before, mean_after, inside);
#ifdef TABLE
    mean[entry.second_state + quad] = select(square_before, square_after, inside);
#else
    square[quad] = select(square_before, square_after, inside);
#endif
    parameter[entry.parameter + quad] = select(before, after, inside);
}
