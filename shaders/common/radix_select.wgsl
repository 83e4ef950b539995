// The largest of `count` keys, found exactly by a workgroup of LANES invocations: a histogram of 8 bits at a time, from the top. The file that
// imports this says what the keys are: fn key_at(at: u32) -> u32. Counts do not depend on an order, so the result is the same every time.

var<workgroup> key_bins: array<atomic<u32>, 256>;
var<workgroup> key_found: vec2<u32>;

// The `wanted` largest keys are all above `key` and the first `ties` that equal it.
struct Threshold {
    key: u32,
    ties: u32,
}

fn threshold_of(lane: u32, count: u32, wanted: u32) -> Threshold {
    var found = vec2<u32>(0u, wanted);
    var known_bits = 0u;
    for (var shift = 32u; shift > 0u;) {
        shift -= 8u;
        for (var bin = lane; bin < 256u; bin += LANES) {
            atomicStore(&key_bins[bin], 0u);
        }
        workgroupBarrier();
        for (var at = lane; at < count; at += LANES) {
            let key = key_at(at);
            if (key & known_bits) == found.x {
                atomicAdd(&key_bins[(key >> shift) & 0xffu], 1u);
            }
        }
        workgroupBarrier();
        if lane == 0u {
            var bin = 255u;
            var rest = found.y;
            for (; bin > 0u; bin--) {
                let members = atomicLoad(&key_bins[bin]);
                if members >= rest {
                    break;
                }
                rest -= members;
            }
            key_found = vec2<u32>(found.x | (bin << shift), rest);
        }
        workgroupBarrier();
        found = key_found;
        known_bits |= 0xffu << shift;
        workgroupBarrier();
    }
    return Threshold(found.x, found.y);
}
