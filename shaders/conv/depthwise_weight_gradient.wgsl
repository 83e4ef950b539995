// gradient[c, t] = sum over output pixels p:  output_gradient[c, p] * input[c, p * STRIDE + t * DILATION - PADDING]
//
// Tile: a workgroup sums all KERNEL_X taps of one row of the kernel for one quad over its share of the pixels. Its 64 invocations take runs of
// PIXELS pixels of a row in turn and add up in workgroup memory, in a fixed order. Share `split` writes to partial[split].
// Dispatch: [quads * kernel_y * splits] workgroups of 64, folded.
// WINDOW = (PIXELS - 1) * STRIDE_X + (KERNEL_X - 1) * DILATION_X + 1 input pixels of a row.
// The input is read through its normalisation and activation, see common/source.wgsl; with STASH it is decoded as well.
#import common/grid
#import common/source

struct Params {
    groups: u32,
    quads: u32,
    // Runs of pixels: of the whole batch, of one share (a multiple of 64), and side by side in a row.
    runs: u32,
    runs_per_split: u32,
    runs_per_row: u32,
    // What 64 runs further means in runs of a row, rows of an image and images.
    step_run: u32,
    step_row: u32,
    step_image: u32,
    output_height: u32,
    output_width: u32,
    output_plane: u32,
    input_height: u32,
    input_width: u32,
    input_plane: u32,
    stride_y: u32,
    dilation_y: u32,
    padding_y: u32,
    padding_x: u32,
    kernel_y: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
#ifdef STASH
@group(0) @binding(1) var<storage, read_write> stash: array<vec4<u32>>;
#else
@group(0) @binding(1) var<storage, read_write> source: array<vec4<f32>>;
#endif
@group(0) @binding(2) var<storage, read_write> output_gradient: array<vec4<f32>>;
#ifdef NORMALISE
@group(0) @binding(3) var<storage, read_write> normalisation: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> partial: array<vec4<f32>>;
#else
@group(0) @binding(3) var<storage, read_write> partial: array<vec4<f32>>;
#endif
#ifdef SLOPES
@group(0) @binding(5) var<storage, read_write> slopes: array<u32>;
#endif

const LANES: u32 = 64u;

var<workgroup> lane_sums: array<vec4<f32>, LANES>;

fn load_input(scaling: Scaling, quad: u32, pixel: u32) -> vec4<f32> {
#ifdef STASH
    return load_stashed(scaling, quad, pixel, params.quads, params.input_plane);
#else
    return load_source(scaling, quad * params.input_plane + pixel);
#endif
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = flat_workgroup(workgroup, workgroups);
    let group_used = min(group, params.groups - 1u);
    let quad = group_used % params.quads;
    let tap_y = group_used / params.quads % params.kernel_y;
    let split = group_used / params.quads / params.kernel_y;
    let offset_y = i32(tap_y * params.dilation_y) - i32(params.padding_y);

    var run_at = split * params.runs_per_split + lane;
    var row = run_at / params.runs_per_row;
    var run = run_at - row * params.runs_per_row;
    var image = row / params.output_height;
    var y = row - image * params.output_height;

#for tap in 0..KERNEL_X
    var sum_{tap} = vec4<f32>();
#endfor

    let scaling = scaling_of(quad);
    for (var done = 0u; done < params.runs_per_split; done += LANES) {
        let live = run_at < params.runs;
        let x = run * PIXELS;
        let image_used = select(0u, image, live);
        let output_base = quad * params.output_plane + (image_used * params.output_height + y) * params.output_width;
#for pixel in 0..PIXELS
        let use_{pixel} = live && x + {pixel}u < params.output_width;
        let gradient_{pixel} = select(vec4<f32>(), output_gradient[output_base + select(0u, x + {pixel}u, use_{pixel})], use_{pixel});
#endfor
        let input_y = i32(y * params.stride_y) + offset_y;
        let input_x = i32(x * STRIDE_X) - i32(params.padding_x);
        let row_inside = live && u32(input_y) < params.input_height;
        let input_base = (image_used * params.input_height + select(0u, u32(input_y), row_inside)) * params.input_width;
        var window: array<vec4<f32>, WINDOW>;
#for at in 0..WINDOW
        let column_{at} = u32(input_x + {at});
        let inside_{at} = row_inside && column_{at} < params.input_width;
        window[{at}] = select(vec4<f32>(), load_input(scaling, quad, input_base + select(0u, column_{at}, inside_{at})), inside_{at});
#endfor
#for tap in 0..KERNEL_X
#for pixel in 0..PIXELS
        sum_{tap} = fma(gradient_{pixel}, window[{pixel}u * STRIDE_X + {tap}u * DILATION_X], sum_{tap});
#endfor
#endfor

        run_at += LANES;
        run += params.step_run;
        let next_row = run >= params.runs_per_row;
        run -= select(0u, params.runs_per_row, next_row);
        y += params.step_row + u32(next_row);
        let next_image = y >= params.output_height;
        y -= select(0u, params.output_height, next_image);
        image += params.step_image + u32(next_image);
    }

#for tap in 0..KERNEL_X
    workgroupBarrier();
    lane_sums[lane] = sum_{tap};
    workgroupBarrier();
    if lane == 0u && group < params.groups {
        var total = vec4<f32>();
        for (var other = 0u; other < LANES; other++) {
            total += lane_sums[other];
        }
        partial[(split * params.quads + quad) * params.kernel_y * KERNEL_X + tap_y * KERNEL_X + {tap}u] = total;
    }
#endfor
}
