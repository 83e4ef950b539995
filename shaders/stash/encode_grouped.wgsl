// stash = codes of STASH_BITS bits for every value, a header for every group:   code = (value - minimum) / step, rounded up or down at
// random so that its mean is the value.  common/stash.wgsl has the layout, common/stash_encode.wgsl the arithmetic.
//
// Tile: 8 invocations a block (STASH_GROUP pixels of one quad: four groups), in turn over its pixels for the ranges, then over its words.
// Dispatch: [ceil(quads * blocks / 8)] workgroups of 64, folded.
#import common/grid
#import common/stash_encode

struct Params {
    quads: u32,
    pixels: u32,
    // Blocks of a plane, and of the tensor.
    blocks: u32,
    all_blocks: u32,
    // Words of codes of a plane.
    words: u32,
    tensor: u32,
    seed_word: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> seeds: array<u32>;
@group(0) @binding(2) var<storage, read_write> values: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> stash: array<u32>;

const STASH_PIXELS: u32 = 8u / STASH_BITS;

var<workgroup> lane_low: array<vec4<u32>, 64>;
var<workgroup> lane_high: array<vec4<u32>, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let flat = flat_workgroup(workgroup, workgroups) * 8u + lane / 8u;
    let block_of_tensor = min(flat, params.all_blocks - 1u);
    let quad = block_of_tensor / params.blocks;
    let begin = (block_of_tensor - quad * params.blocks) * STASH_GROUP;
    let end = min(begin + STASH_GROUP, params.pixels);
    let plane = quad * params.pixels;
    let member = lane % 8u;

    var low = vec4<u32>(0xffffffffu);
    var high = vec4<u32>(0u);
    for (var pixel = begin + member; pixel < end; pixel += 8u) {
        let value = values[plane + pixel];
        let key = group_key(value);
        let counts = group_counts(value);
        low = select(low, min(low, key), counts);
        high = select(high, max(high, key), counts);
    }
    lane_low[lane] = low;
    lane_high[lane] = high;
    workgroupBarrier();
    for (var other = 0u; other < 8u; other++) {
        low = min(low, lane_low[lane - member + other]);
        high = max(high, lane_high[lane - member + other]);
    }
    if flat >= params.all_blocks {
        return;
    }
    let header = group_header(low, high);
    if member < 4u {
        stash[block_of_tensor * 4u + member] = header[member];
    }
    let scale = group_scale(header);
    let first_word = params.all_blocks * 4u + quad * params.words;
    let seed = seeds[params.seed_word];
    for (var first = begin + member * STASH_PIXELS; first < end; first += 8u * STASH_PIXELS) {
        var word = 0u;
        for (var pixel = first; pixel < min(first + STASH_PIXELS, end); pixel++) {
            let element = plane + pixel;
            let codes = group_codes(values[element], scale, stash_random(element, params.tensor, seed));
            let placed = codes << (vec4<u32>(0u, 1u, 2u, 3u) * STASH_BITS);
            word |= (placed.x | placed.y | placed.z | placed.w) << ((pixel - first) * 4u * STASH_BITS);
        }
        stash[first_word + first / STASH_PIXELS] = word;
    }
    if block_of_tensor == params.all_blocks - 1u && member == 0u {
        for (var tail = first_word + params.words; tail % 4u != 0u; tail++) {
            stash[tail] = 0u;
        }
    }
}
