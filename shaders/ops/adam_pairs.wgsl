// AdamW where the gradient is the same at every tap of a weight, so that gradient and moments are held once a pair of channels:
// g = gradient_scale * gradient
// mean += first_rest * (g - mean);  square = second_beta * square + second_rest * g^2,  where rest = 1 - beta
// parameter[t] -= learning_rate * (weight_decay * parameter[t] + mean / first_correction / (sqrt(square / second_correction) + epsilon))
// for every tap t. Nothing changes while control.halted or control.skipped is set.
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
    let at = flat_workgroup(workgroup, workgroups) * 256u + lane;
    if (control.halted | control.skipped) != 0u || at >= params.count {
        return;
    }
    let slope = control.gradient_scale * gradient[at];
    let mean_after = mean[at] + params.first_rest * (slope - mean[at]);
    let square_after = params.second_beta * square[at] + params.second_rest * slope * slope;
    mean[at] = mean_after;
    square[at] = square_after;
    let spread = sqrt(square_after) / sqrt(control.second_correction) + vec4(params.epsilon);
    let step = mean_after / spread / control.first_correction;
    let first = at / params.inner * (params.taps - 1u) * params.inner + at;
    for (var tap = 0u; tap < params.taps; tap++) {
        let before = parameter[first + tap * params.inner];
        parameter[first + tap * params.inner] = before - control.learning_rate * (step + params.weight_decay * before);
    }
}
