// The adjoint of the bilinear enlargement by two: along one axis
//   input_gradient[y] = 1/4 g[2y - 1] + 3/4 g[2y] + 3/4 g[2y + 1] + 1/4 g[2y + 2], g the output gradient, indices clamped to the map
// (the clamp gives border pixels the quarter that enlargement took from them twice), and both axes one after the other.
//
// Tile: one input quad an invocation, 256 neighbouring pixels. Dispatch: [ceil(input pixels / 256), quads] workgroups of 256.

struct Params {
    input_pixels: u32,
    input_height: u32,
    input_width: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> output_gradient: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> input_gradient: array<vec4<f32>>;

// The four outputs that read input `position`, of which there are `2 * size`.
fn readers(position: u32, size: u32) -> vec4<u32> {
    return vec4<u32>(
        max(2u * position, 1u) - 1u,
        2u * position,
        2u * position + 1u,
        min(2u * position + 2u, 2u * size - 1u),
    );
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let pixel = workgroup.x * 256u + lane;
    if pixel >= params.input_pixels {
        return;
    }
    let x = pixel % params.input_width;
    let row = pixel / params.input_width;
    let image = row / params.input_height;
    let y = row % params.input_height;
    let plane = 4u * (workgroup.y * params.input_pixels + image * params.input_height * params.input_width);
    let rows = readers(y, params.input_height) * (2u * params.input_width) + plane;
    let columns = readers(x, params.input_width);
#for reader in 0..4
    let sum_{reader} =
        0.25 * (output_gradient[rows[{reader}] + columns.x] + output_gradient[rows[{reader}] + columns.w])
        + 0.75 * (output_gradient[rows[{reader}] + columns.y] + output_gradient[rows[{reader}] + columns.z]);
#endfor
    input_gradient[workgroup.y * params.input_pixels + pixel] =
        0.25 * (sum_0 + sum_3) + 0.75 * (sum_1 + sum_2);
}
