// mark[p] = gate[p].x > 0
// REACHED:  mark[p] = whether input pixel p meets a listed output pixel:  some tap t with listed[(p + padding - t * dilation) / stride]
//
// Marks are bits, 32 pixels a word, and behind them counts[b] = how many of the 2048 pixels of block b are marked; list_pixels.wgsl makes a
// list of them.
// Tile: a workgroup marks one block. Dispatch: [blocks] workgroups of 64, folded.
#import common/grid
#import common/mark

struct Params {
    pixels: u32,
    blocks: u32,
    // Reached only: the map that is marked, the map of which pixels are listed, and how they meet.
    height: u32,
    width: u32,
    listed_height: u32,
    listed_width: u32,
    taps_y: u32,
    taps_x: u32,
    stride_y: u32,
    stride_x: u32,
    dilation_y: u32,
    dilation_x: u32,
    padding_y: u32,
    padding_x: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
#ifdef REACHED
@group(0) @binding(1) var<storage, read_write> marks: array<u32>;
@group(0) @binding(2) var<storage, read_write> reached: array<u32>;
#else
@group(0) @binding(1) var<storage, read_write> gate: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> marks: array<u32>;
#endif

var<workgroup> words: array<atomic<u32>, 64>;
var<workgroup> count: atomic<u32>;

fn is_wanted(pixel: u32) -> bool {
#ifdef REACHED
    let row = pixel / params.width;
    let image = row / params.height;
    let y = row - image * params.height;
    let x = pixel - row * params.width;
    var wanted = false;
    for (var tap_y = 0u; tap_y < params.taps_y; tap_y++) {
        let at_y = met(y + params.padding_y, tap_y * params.dilation_y, params.stride_y);
        for (var tap_x = 0u; tap_x < params.taps_x; tap_x++) {
            let at_x = met(x + params.padding_x, tap_x * params.dilation_x, params.stride_x);
            if at_y < params.listed_height && at_x < params.listed_width {
                wanted = wanted || is_marked((image * params.listed_height + at_y) * params.listed_width + at_x);
            }
        }
    }
    return wanted;
#else
    return gate[pixel].x > 0.0;
#endif
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let block = flat_workgroup(workgroup, workgroups);
    atomicStore(&words[lane], 0u);
    if lane == 0u {
        atomicStore(&count, 0u);
    }
    workgroupBarrier();
    for (var step = 0u; step < 2048u; step += 64u) {
        let pixel = block * 2048u + step + lane;
        if pixel < params.pixels && is_wanted(pixel) {
            atomicOr(&words[(step + lane) / 32u], 1u << (lane % 32u));
            atomicAdd(&count, 1u);
        }
    }
    workgroupBarrier();
    if block < params.blocks {
#ifdef REACHED
        reached[block * 64u + lane] = atomicLoad(&words[lane]);
        if lane == 0u {
            reached[params.blocks * 64u + block] = atomicLoad(&count);
        }
#else
        marks[block * 64u + lane] = atomicLoad(&words[lane]);
        if lane == 0u {
            marks[params.blocks * 64u + block] = atomicLoad(&count);
        }
#endif
    }
}
