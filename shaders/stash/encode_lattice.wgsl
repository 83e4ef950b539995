// code = round(value / (step * 2^raised)), with the smallest `raised` from 0 on at which all codes of the group fit STASH_BITS bits:
// the error is at most step / 2 * 2^raised, zero stays zero, and the bytes are the same whatever the data.
// A group without values below zero has codes from 0 to 2^STASH_BITS - 1, others around a bias of 2^(STASH_BITS - 1), with as many below it
// as above. A byte a group holds `raised` and, in its highest bit, whether there is a bias; common/stash.wgsl has the layout.
// `bound` receives the largest `raised`, how many groups have one, and how many values are not zero: integers, in whatever order.
//
// Magnitudes below 2^-100 count as zero, those from 2^100 on, infinities and NaN make their group NaN (`raised` = 127).
// Tile: 8 invocations a block (STASH_GROUP pixels of one quad: four groups), in turn over its pixels for the ranges, then over its words.
// Dispatch: [ceil(quads * blocks / 8)] workgroups of 64, folded.
#import common/grid
#import common/bound

struct Params {
    quads: u32,
    pixels: u32,
    // Blocks of a plane, and of the tensor.
    blocks: u32,
    all_blocks: u32,
    // Words of codes of a plane.
    words: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> values: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> bound: Bound;
@group(0) @binding(3) var<storage, read_write> stash: array<u32>;

const STASH_PIXELS: u32 = 8u / STASH_BITS;
const SIGN: vec4<u32> = vec4<u32>(0x80000000u);
const NOT_FINITE: u32 = 127u;

var<workgroup> lane_high: array<vec4<u32>, 64>;
var<workgroup> lane_signs: array<vec4<u32>, 64>;
var<workgroup> lane_nonzero: array<u32, 64>;

fn flush(value: vec4<f32>) -> vec4<u32> {
    let bits = bitcast<vec4<u32>>(value);
    return select(bits, vec4<u32>(0u), (bits & ~SIGN) < vec4<u32>(0x0d800000u));
}

// round(magnitude / (step * 2^raised)): one multiplication, and powers of two.
fn codes_at(magnitude: vec4<u32>, raised: vec4<u32>, inverse: f32) -> vec4<u32> {
    let factor = (2.0 * inverse) * bitcast<vec4<f32>>((vec4<u32>(127u) - raised) << vec4<u32>(23u));
    return (vec4<u32>(bitcast<vec4<f32>>(magnitude) * factor) + vec4<u32>(1u)) >> vec4<u32>(1u);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let flat = flat_workgroup(workgroup, workgroups) * 8u + lane / 8u;
    let block_of_tensor = min(flat, params.all_blocks - 1u);
    let live = flat < params.all_blocks;
    let quad = block_of_tensor / params.blocks;
    let begin = (block_of_tensor - quad * params.blocks) * STASH_GROUP;
    let end = min(begin + STASH_GROUP, params.pixels);
    let plane = quad * params.pixels;
    let member = lane % 8u;
    let step = bound.step;
    let inverse = bound.inverse;

    var high = vec4<u32>(0u);
    var signs = vec4<u32>(0u);
    var nonzero = vec4<u32>(0u);
    for (var pixel = begin + member; pixel < end; pixel += 8u) {
        let bits = flush(values[plane + pixel]);
        high = max(high, bits & ~SIGN);
        signs |= bits & SIGN;
        nonzero += select(vec4<u32>(0u), vec4<u32>(1u), bits != vec4<u32>(0u));
    }
    lane_high[lane] = high;
    lane_signs[lane] = signs;
    lane_nonzero[lane] = select(0u, nonzero.x + nonzero.y + nonzero.z + nonzero.w, live);
    workgroupBarrier();
    for (var other = 0u; other < 8u; other++) {
        high = max(high, lane_high[lane - member + other]);
        signs |= lane_signs[lane - member + other];
    }
    if lane == 0u {
        var sum = 0u;
        for (var other = 0u; other < 64u; other++) {
            sum += lane_nonzero[other];
        }
        atomicAdd(&bound.nonzero, sum);
    }
    if !live {
        return;
    }

    let bias = select(vec4<u32>(0u), vec4<u32>(1u << (STASH_BITS - 1u)), signs != vec4<u32>(0u));
    let room = vec4<u32>(STASH_BITS) - min(bias, vec4<u32>(1u));
    let limit = (vec4<u32>(1u) << room) - vec4<u32>(1u);
    // high / step is from 2^e to 2^(e + 2): at most three more halvings than e - room make it fit.
    let exponent = vec4<i32>(high >> vec4<u32>(23u)) + vec4<i32>(i32(bitcast<u32>(inverse) >> 23u) - 254);
    let least = max(exponent - vec4<i32>(room), vec4<i32>(0));
    var raised = vec4<u32>(min(least, vec4<i32>(126)));
    for (var attempt = 0u; attempt < 3u; attempt++) {
        raised += select(vec4<u32>(0u), vec4<u32>(1u), codes_at(high, min(raised, vec4<u32>(126u)), inverse) > limit);
    }
    // NaN is above infinity, as integers.
    raised = select(min(raised, vec4<u32>(NOT_FINITE)), vec4<u32>(NOT_FINITE), high >= vec4<u32>(0x71800000u));
    let lost = raised == vec4<u32>(NOT_FINITE);

    if member == 0u {
        let group = raised | (min(bias, vec4<u32>(1u)) << vec4<u32>(7u));
        stash[4u + block_of_tensor] = group.x | (group.y << 8u) | (group.z << 16u) | (group.w << 24u);
        let most = max(max(raised.x, raised.y), max(raised.z, raised.w));
        if most > 0u {
            atomicMax(&bound.raised, most);
            let each = min(raised, vec4<u32>(1u));
            atomicAdd(&bound.raised_groups, each.x + each.y + each.z + each.w);
        }
    }
    if block_of_tensor == 0u && member < 4u {
        stash[member] = select(0u, bitcast<u32>(step), member == 0u);
    }
    let first_code = 4u + (params.all_blocks + 3u) / 4u * 4u;
    let first_word = first_code + quad * params.words;
    for (var first = begin + member * STASH_PIXELS; first < end; first += 8u * STASH_PIXELS) {
        var word = 0u;
        for (var pixel = first; pixel < min(first + STASH_PIXELS, end); pixel++) {
            let bits = flush(values[plane + pixel]);
            let code = codes_at(select(bits & ~SIGN, vec4<u32>(0u), lost), min(raised, vec4<u32>(126u)), inverse);
            let placed = (bias + select(code, ~code + vec4<u32>(1u), bits >= SIGN)) << (vec4<u32>(0u, 1u, 2u, 3u) * STASH_BITS);
            word |= (placed.x | placed.y | placed.z | placed.w) << ((pixel - first) * 4u * STASH_BITS);
        }
        stash[first_word + first / STASH_PIXELS] = word;
    }
    if block_of_tensor == params.all_blocks - 1u && member == 0u {
        for (var tail = 4u + params.all_blocks; tail < first_code; tail++) {
            stash[tail] = 0u;
        }
        for (var tail = first_word + params.words; tail % 4u != 0u; tail++) {
            stash[tail] = 0u;
        }
    }
}
