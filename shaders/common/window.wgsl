// Sizes and index arithmetic of pooling windows: output y covers input rows `stride * y - padding + tap`, 0 <= tap < kernel.

struct Params {
    input_pixels: u32,
    input_height: u32,
    input_width: u32,
    output_pixels: u32,
    output_height: u32,
    output_width: u32,
    kernel: u32,
    stride: u32,
    padding: u32,
}

@group(0) @binding(0) var<uniform> params: Params;

// The taps, from x up to before y, of output position `output` that fall inside an input of `size`.
fn taps_inside(output: u32, size: u32) -> vec2<u32> {
    let start = output * params.stride;
    return vec2<u32>(
        max(params.padding, start) - start,
        min(params.kernel, size + params.padding - start),
    );
}

// The outputs, from x up to before y, of `count` whose window covers input position `input`.
fn outputs_covering(input: u32, count: u32) -> vec2<u32> {
    let padded = input + params.padding;
    var first = 0u;
    if padded >= params.kernel {
        first = (padded - params.kernel) / params.stride + 1u;
    }
    return vec2<u32>(first, min(padded / params.stride + 1u, count));
}
