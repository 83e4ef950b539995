// gradient[o, t, i] = sum over output pixels p:  output_gradient[o, p] * input[i, p * stride + t * dilation - padding]   (live blocks only)
//
// Tile: a team of LANES invocations sums a chunk, BLOCKS neighbouring slots of one output group (QUADS output quads), over its share of the
// pixels. They take runs of PIXELS pixels of a row in turn, keep the blocks in registers and add them up in workgroup memory, in a fixed
// order. The TEAMS of a workgroup go over the same pixels, so that what one has loaded the others find in a cache.
// Share `split` of `splits` writes to partial[split]; sum_partials.wgsl adds the shares. An empty slot gets zeros.
// Dispatch: [ceil(output_groups * ceil(live / BLOCKS) / TEAMS) * splits] workgroups of LANES * TEAMS, folded.
// The input is read through its normalisation and activation, see common/source.wgsl; with STASH it is decoded as well.
#import common/grid
#import common/column
#import common/source

struct Params {
    groups: u32,
    output_groups: u32,
    // Slots of an output group, chunks that share them, and workgroups of one share of the pixels.
    live: u32,
    chunks: u32,
    groups_of_share: u32,
    // Runs of pixels: of the whole batch, of one share (a multiple of LANES), and side by side in a row.
    runs: u32,
    runs_per_split: u32,
    runs_per_row: u32,
    // What LANES runs further means in runs of a row, rows of an image and images.
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
    stride_x: u32,
    dilation_y: u32,
    dilation_x: u32,
    padding_y: u32,
    padding_x: u32,
    // Channels of all, and (grouped only) of a group.
    input_channels: u32,
    output_channels: u32,
    group_inputs: u32,
    group_outputs: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
#ifdef STASH
@group(0) @binding(1) var<storage, read_write> stash: array<vec4<u32>>;
#else
@group(0) @binding(1) var<storage, read_write> source: array<vec4<f32>>;
#endif
@group(0) @binding(2) var<storage, read_write> output_gradient: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> columns: array<u32>;
#ifdef NORMALISE
@group(0) @binding(4) var<storage, read_write> normalisation: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> partial: array<vec4<f32>>;
#else
@group(0) @binding(4) var<storage, read_write> partial: array<vec4<f32>>;
#endif
#ifdef SLOPES
@group(0) @binding(6) var<storage, read_write> slopes: array<u32>;
#endif

const VECTORS: u32 = QUADS * 4u;

var<workgroup> lane_sums: array<vec4<f32>, LANES * TEAMS * 4u>;

@compute @workgroup_size(LANES * TEAMS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let group = flat_workgroup(workgroup, workgroups);
    let lane = invocation % LANES;
    let split = min(group, params.groups - 1u) / params.groups_of_share;
    let first_chunk = (min(group, params.groups - 1u) - split * params.groups_of_share) * TEAMS;
    // Surplus teams repeat the last chunk and store nothing.
    let last_chunk = params.output_groups * params.chunks - 1u;
    let team_chunk = min(first_chunk + invocation / LANES, last_chunk);
    let output_group = team_chunk / params.chunks;
    let chunk = team_chunk - output_group * params.chunks;
    let first_slot = chunk * BLOCKS;
    let block_base = output_group * params.live + first_slot;

#for block in 0..BLOCKS
    let column_{block} = select(EMPTY, columns[block_base + min({block}u, params.live - 1u - first_slot)], first_slot + {block}u < params.live);
    let input_quad_{block} = select(column_quad(column_{block}), 0u, column_{block} == EMPTY);
    let plane_{block} = input_quad_{block} * params.input_plane;
    let scaling_{block} = scaling_of(input_quad_{block});
    let offset_y_{block} = i32(column_tap_y(column_{block}) * params.dilation_y) - i32(params.padding_y);
    let offset_x_{block} = i32(column_tap_x(column_{block}) * params.dilation_x) - i32(params.padding_x);
#for quad in 0..QUADS
#for half in 0..2
#for one in 0..2
    var block_{block}_{quad}_{half}_{one} = vec4<f32>();
#endfor
#endfor
#endfor
#endfor

    var run_at = split * params.runs_per_split + lane;
    var row = run_at / params.runs_per_row;
    var run = run_at - row * params.runs_per_row;
    var image = row / params.output_height;
    var y = row - image * params.output_height;

    // Where a team has no block to sum, it only writes zeros.
    var any_block = false;
#for block in 0..BLOCKS
    any_block = any_block || column_{block} != EMPTY;
#endfor
    let runs = select(0u, params.runs_per_split, any_block);
    for (var done = 0u; done < runs; done += LANES) {
        let live = run_at < params.runs;
        let x = run * PIXELS;
        let image_used = select(0u, image, live);
        let output_base = (image_used * params.output_height + y) * params.output_width;
#for pixel in 0..PIXELS
        let use_{pixel} = live && x + {pixel}u < params.output_width;
        let output_pixel_{pixel} = output_base + select(0u, x + {pixel}u, use_{pixel});
#for quad in 0..QUADS
        let gradient_{quad}_{pixel} = select(vec4<f32>(), output_gradient[(output_group * QUADS + {quad}u) * params.output_plane + output_pixel_{pixel}], use_{pixel});
#endfor
#endfor
        let input_base = image_used * params.input_height * params.input_width;
#for block in 0..BLOCKS
        if column_{block} != EMPTY {
            let input_y = i32(y * params.stride_y) + offset_y_{block};
            let row_inside = live && u32(input_y) < params.input_height;
            let row_base = input_base + select(0u, u32(input_y), row_inside) * params.input_width;
#for pixel in 0..PIXELS
            let column_at_{pixel} = u32(i32((x + {pixel}u) * params.stride_x) + offset_x_{block});
            let inside_{pixel} = row_inside && column_at_{pixel} < params.input_width;
            let input_pixel_{pixel} = row_base + select(0u, column_at_{pixel}, inside_{pixel});
#ifdef STASH
            let value_{pixel} = select(vec4<f32>(), load_stashed(scaling_{block}, input_quad_{block}, input_pixel_{pixel}, (params.input_channels + 3u) / 4u, params.input_plane), inside_{pixel});
#else
            let value_{pixel} = select(vec4<f32>(), load_source(scaling_{block}, plane_{block} + input_pixel_{pixel}), inside_{pixel});
#endif
#endfor
#for quad in 0..QUADS
            // Two input channels at a time: eight sums stay in registers over all pixels, and a gradient meets two values.
#for half in 0..2
#for pixel in 0..PIXELS
#for one in 0..2
            block_{block}_{quad}_{half}_{one} = fma(gradient_{quad}_{pixel}, vec4<f32>(value_{pixel}[{half} * 2 + {one}]), block_{block}_{quad}_{half}_{one});
#endfor
#endfor
#endfor
#endfor
        }
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

    // A quad of every team's blocks in turn: one vec4 (four output channels for one input channel) an invocation.
    // LANES as a number no compiler knows, lest it unrolls what runs once.
    let lanes = select(LANES, 0u, params.groups == 0u);
#for block in 0..BLOCKS
#for quad in 0..QUADS
#for half in 0..2
#for one in 0..2
    lane_sums[({half}u * 2u + {one}u) * (LANES * TEAMS) + invocation] = block_{block}_{quad}_{half}_{one};
#endfor
#endfor
    workgroupBarrier();
    for (var vector = invocation; vector < TEAMS * 4u; vector += lanes * TEAMS) {
        let channel = vector % 4u;
        var total = vec4<f32>();
        for (var other = 0u; other < lanes; other++) {
            total += lane_sums[channel * (LANES * TEAMS) + vector / 4u * LANES + other];
        }
        let at_chunk = first_chunk + vector / 4u;
        let at_group = min(at_chunk, last_chunk) / params.chunks;
        let slot = (min(at_chunk, last_chunk) - at_group * params.chunks) * BLOCKS + {block}u;
        if group < params.groups && at_chunk <= last_chunk && slot < params.live {
            let block = at_group * params.live + slot;
#ifdef GROUPED
            // Elements between groups stay exactly zero, so that an optimiser keeps them zero.
            let input_channel = column_quad(columns[block]) * 4u + channel;
            let output_channel = vec4<u32>((at_group * QUADS + {quad}u) * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
            let same_group = output_channel / vec4<u32>(params.group_outputs) == vec4<u32>(input_channel / params.group_inputs);
            let real = (output_channel < vec4<u32>(params.output_channels)) & vec4<bool>(input_channel < params.input_channels);
            total = select(vec4<f32>(), total, same_group & real);
#endif
            partial[(split * params.output_groups * params.live + block) * VECTORS + {quad}u * 4u + channel] = total;
        }
    }
    workgroupBarrier();
#endfor
#endfor
}
