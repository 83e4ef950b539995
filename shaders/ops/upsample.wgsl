// Bilinear enlargement by two: output pixel 2y + s lies a quarter pixel before (s = 0) or behind (s = 1) input pixel y, so
//   output[2y + s] = 3/4 input[y] + 1/4 input[y - 1 + 2s], rows and columns alike, indices clamped to the map.
//
// Tile: one output quad an invocation, 256 neighbouring pixels. Dispatch: [ceil(output pixels / 256), quads] workgroups of 256.

struct Params {
    input_pixels: u32,
    input_height: u32,
    input_width: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> input: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> output: array<vec4<f32>>;

fn neighbour(position: u32, size: u32) -> u32 {
    // position / 2 - 1 for an even position, + 1 for an odd one, clamped.
    return min(max((position + position % 2u * 4u) / 2u, 1u) - 1u, size - 1u);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let pixel = workgroup.x * 256u + lane;
    if pixel >= 4u * params.input_pixels {
        return;
    }
    let x = pixel % (2u * params.input_width);
    let row = pixel / (2u * params.input_width);
    let image = row / (2u * params.input_height);
    let y = row % (2u * params.input_height);
    let plane = workgroup.y * params.input_pixels + image * params.input_height * params.input_width;
    let near_row = plane + y / 2u * params.input_width;
    let far_row = plane + neighbour(y, params.input_height) * params.input_width;
    let near = x / 2u;
    let far = neighbour(x, params.input_width);
    let upper = 0.75 * input[near_row + near] + 0.25 * input[near_row + far];
    let lower = 0.75 * input[far_row + near] + 0.25 * input[far_row + far];
    output[workgroup.y * 4u * params.input_pixels + pixel] = 0.75 * upper + 0.25 * lower;
}
