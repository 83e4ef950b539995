// First pass of the statistics of a batch norm: for every quad and slice of its pixels
//   workspace[2s] = mean of the slice, workspace[2s + 1] = sum over the slice of (x - mean)^2,   s = quad * slices + slice.
// Each lane sums x - pilot and its square, the pilot being its first value: no cancellation whatever the mean, and an outlier as
// pilot spoils only the few values of its lane. Lanes are merged pairwise:
//   delta = mean_b - mean_a, mean = mean_a + delta * b / (a + b), squares = squares_a + squares_b + delta^2 * a * b / (a + b).
//
// Tile: one slice of one quad, lanes along neighbouring pixels. Dispatch: [slices, quads] workgroups of 256.

struct Params {
    pixels: u32,
    slice_pixels: u32,
    slices: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> input: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> workspace: array<vec4<f32>>;

#import common/moments

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first = workgroup.y * params.pixels;
    let begin = workgroup.x * params.slice_pixels;
    let end = min(begin + params.slice_pixels, params.pixels);
    var count = 0.0;
    var pilot = vec4<f32>(0.0);
    var sum = vec4<f32>(0.0);
    var squares = vec4<f32>(0.0);
    if begin + lane < end {
        pilot = input[first + begin + lane];
    }
    for (var pixel = begin + lane; pixel < end; pixel += 256u) {
        let difference = input[first + pixel] - pilot;
        sum += difference;
        squares += difference * difference;
        count += 1.0;
    }
    let shift = sum / max(count, 1.0);
    lane_count[lane] = count;
    lane_mean[lane] = pilot + shift;
    lane_squares[lane] = max(squares - sum * shift, vec4<f32>(0.0));
    merge_moments(lane);
    if lane == 0u {
        let slice = workgroup.y * params.slices + workgroup.x;
        workspace[2u * slice] = lane_mean[0];
        workspace[2u * slice + 1u] = lane_squares[0];
    }
}
