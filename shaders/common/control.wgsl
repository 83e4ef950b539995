// The control block that all kernels of a step share: the host writes the first five members before every step, kernels the rest.

struct Control {
    learning_rate: f32,
    first_correction: f32,
    second_correction: f32,
    seed: u32,
    samples: u32,
    gradient_scale: f32,
    halted: u32,
    skipped: u32,
}
