// First pass of the statistics of a batch norm: for every quad and slice of its pixels
//   moments[r] = mean of the slice, moments[r + 1] = sum over the slice of (x - mean)^2, moments[r + 2] = its pixels,
//   r = 1 + 3 * (slice * quads + quad); moments[0] = slices.
// A convolution can write the same of what it computes, and this pass then falls away (common/group_moments.wgsl).
// Each lane sums x - pilot and its square, the pilot being its first value: no cancellation whatever the mean, and an outlier as
// pilot spoils only the few values of its lane. Lanes are merged pairwise:
//   delta = mean_b - mean_a, mean = mean_a + delta * b / (a + b), squares = squares_a + squares_b + delta^2 * a * b / (a + b).
//
// Tile: one slice of one quad, lanes along neighbouring pixels. Dispatch: [slices, quads] workgroups of LANES.

struct Params {
    pixels: u32,
    slice_pixels: u32,
    slices: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> input: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> moments: array<vec4<f32>>;

#import common/moments

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
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
    for (var pixel = begin + lane; pixel < end; pixel += LANES) {
        let difference = input[first + pixel] - pilot;
        sum += difference;
        squares += difference * difference;
        count += 1.0;
    }
    let shift = sum / max(count, 1.0);
    lane_count[lane] = count;
    lane_mean[lane] = pilot + shift;
    lane_squares[lane] = max(squares - sum * shift, vec4<f32>(0.0));
    merge_moments(lane, min(end - begin, LANES));
    if lane == 0u {
        let record = 1u + 3u * (workgroup.x * workgroups.y + workgroup.y);
        moments[record] = lane_mean[0];
        moments[record + 1u] = lane_squares[0];
        moments[record + 2u] = vec4<f32>(lane_count[0]);
        if workgroup.x == 0u && workgroup.y == 0u {
            moments[0] = vec4<f32>(f32(params.slices));
        }
    }
}
