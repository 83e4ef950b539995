// stash = codes of STASH_BITS bits for every value, a header for every group:   code = (value - minimum) / step, rounded up or down at
// random so that its mean is the value.  common/stash.wgsl has the layout, common/stash_encode.wgsl the arithmetic.
//
// Tile: 8 pixels an invocation, held in registers from the ranges to the codes; STASH_GROUP / 8 invocations a block (STASH_GROUP pixels of
// one quad: four groups). Dispatch: [ceil(quads * blocks / (512 / STASH_GROUP))] workgroups of 64, folded.
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
// Pixels of an invocation, and invocations of a block.
const HELD: u32 = 8u;
const MEMBERS: u32 = STASH_GROUP / HELD;

// Eight rows of the invocations' keys: the least of each lane, and the complement of the greatest, so that all are sought by minimum.
// A row is one longer than the workgroup, so that rows do not meet in one bank.
const ROW: u32 = 65u;
var<workgroup> keys: array<u32, 8u * ROW>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let flat = flat_workgroup(workgroup, workgroups) * (64u / MEMBERS) + lane / MEMBERS;
    let block_of_tensor = min(flat, params.all_blocks - 1u);
    let quad = block_of_tensor / params.blocks;
    let begin = (block_of_tensor - quad * params.blocks) * STASH_GROUP;
    let end = min(begin + STASH_GROUP, params.pixels);
    let plane = quad * params.pixels;
    let member = lane % MEMBERS;

    var held: array<vec4<f32>, HELD>;
    var low = vec4<u32>(0xffffffffu);
    var high = vec4<u32>(0u);
    for (var at = 0u; at < HELD; at++) {
        let pixel = begin + (at / STASH_PIXELS * MEMBERS + member) * STASH_PIXELS + at % STASH_PIXELS;
        // Past the end the last pixel once more: that changes no range.
        let value = values[plane + min(pixel, end - 1u)];
        held[at] = value;
        let key = group_key(value);
        let counts = group_counts(value);
        low = select(low, min(low, key), counts);
        high = select(high, max(high, key), counts);
    }
    for (var row = 0u; row < 4u; row++) {
        keys[row * ROW + lane] = low[row];
        keys[(row + 4u) * ROW + lane] = ~high[row];
    }
    workgroupBarrier();
    // An invocation seeks the least of one row in its block.
    let block_lane = lane - member;
    if member < 8u {
        let row = member * ROW + block_lane;
        var least = keys[row];
        for (var other = 1u; other < MEMBERS; other++) {
            least = min(least, keys[row + other]);
        }
        keys[row] = least;
    }
    workgroupBarrier();
    for (var row = 0u; row < 4u; row++) {
        low[row] = keys[row * ROW + block_lane];
        high[row] = ~keys[(row + 4u) * ROW + block_lane];
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
    let pairs = quad * ((params.pixels + 1u) / 2u);
    for (var run = 0u; run < HELD / STASH_PIXELS; run++) {
        let first = begin + (run * MEMBERS + member) * STASH_PIXELS;
        if first < end {
            var word = 0u;
            var words = vec4<u32>();
            for (var at = 0u; at < STASH_PIXELS; at++) {
                let pixel = first + at;
                if STASH_PIXELS == 1u || at % 2u == 0u {
                    words = stash_random(pairs + pixel / 2u, params.tensor, seed);
                }
                let random = select(words & vec4<u32>(0xffffu), words >> vec4<u32>(16u), pixel % 2u == 1u);
                let codes = group_codes(held[run * STASH_PIXELS + at], scale, random);
                let placed = select(vec4<u32>(), codes, pixel < end) << (vec4<u32>(0u, 1u, 2u, 3u) * STASH_BITS);
                word |= (placed.x | placed.y | placed.z | placed.w) << (at * 4u * STASH_BITS);
            }
            stash[first_word + first / STASH_PIXELS] = word;
        }
    }
    if block_of_tensor == params.all_blocks - 1u && member == 0u {
        for (var tail = first_word + params.words; tail % 4u != 0u; tail++) {
            stash[tail] = 0u;
        }
    }
}
