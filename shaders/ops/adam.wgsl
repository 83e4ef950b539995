// g = gradient_scale * gradient
// DECOUPLED (AdamW): parameter -= learning_rate * weight_decay * parameter;  otherwise: g += weight_decay * parameter
// mean += first_rest * (g - mean);  square = second_beta * square + second_rest * g^2,  where rest = 1 - beta
// parameter -= learning_rate / first_correction * mean / (sqrt(square / second_correction) + epsilon)
// Nothing changes while control.halted is set, nor beyond element `count`.
//
// Tile: one quad of elements an invocation. Dispatch: [ceil(ceil(count / 4) / 256)] workgroups of 256, folded.
#import common/grid
#import common/control

struct Params {
    count: u32,
    weight_decay: f32,
    first_rest: f32,
    second_beta: f32,
    second_rest: f32,
    epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> control: Control;
@group(0) @binding(2) var<storage, read_write> gradient: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> parameter: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> mean: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> square: array<vec4<f32>>;

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
    var slope = control.gradient_scale * gradient[quad];
    var decayed = before;
#ifdef DECOUPLED
    decayed -= control.learning_rate * params.weight_decay * before;
#else
    slope += params.weight_decay * before;
#endif
    let mean_before = mean[quad];
    let mean_after = mean_before + params.first_rest * (slope - mean_before);
    let square_before = square[quad];
    let square_after = params.second_beta * square_before + params.second_rest * slope * slope;
    let spread = sqrt(square_after) / sqrt(control.second_correction) + vec4(params.epsilon);
    let after = decayed - control.learning_rate / control.first_correction * mean_after / spread;
    mean[quad] = select(mean_before, mean_after, inside);
    square[quad] = select(square_before, square_after, inside);
    parameter[quad] = select(before, after, inside);
}
