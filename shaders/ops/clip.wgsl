// norm = sqrt(sum_i slots[i]);  control.gradient_scale = min(1, max_norm / (norm + 1e-6))
// A norm that is not finite sets control.halted instead and leaves the scale alone.
//
// Tile: invocation i sums slots i, i + 256, ..., then a tree, so the order is fixed. Dispatch: [1] workgroup of 256.
#import common/finite
#import common/control

struct Params {
    slots: u32,
    max_norm: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> slots: array<f32>;
@group(0) @binding(2) var<storage, read_write> norm: array<f32>;
@group(0) @binding(3) var<storage, read_write> control: Control;

var<workgroup> sums: array<f32, 256>;
var<workgroup> broken: array<u32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) lane: u32) {
    var sum = 0.0;
    var broken_here = 0u;
    for (var slot = lane; slot < params.slots; slot += 256u) {
        let value = slots[slot];
        broken_here |= select(0u, 1u, is_not_finite(value));
        sum += value;
    }
    sums[lane] = sum;
    broken[lane] = broken_here;
    workgroupBarrier();
    for (var stride = 128u; stride > 0u; stride >>= 1u) {
        if lane < stride {
            sums[lane] += sums[lane + stride];
            broken[lane] |= broken[lane + stride];
        }
        workgroupBarrier();
    }
    if lane == 0u {
        let length = sqrt(sums[0]);
        norm[0] = length;
        if broken[0] != 0u || is_not_finite(sums[0]) {
            control.halted = 1u;
        } else {
            control.gradient_scale = min(1.0, params.max_norm / (length + 1e-6));
        }
    }
}
