// norm = sqrt(sum_i slots[i]);  control.gradient_scale = min(1, max_norm / (norm + 1e-6))
// A norm that is not finite sets control.halted instead and leaves the scale alone.
// LOSS_SCALE: the slots are of gradients times loss_scale.scale, by which norm and gradient_scale are divided. A norm that is not finite halves that scale and sets
// control.skipped for this step, or halts where the scale is 1; PATIENCE steps in a row that are finite double it.
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

#ifdef LOSS_SCALE
struct LossScale {
    scale: f32,
    steps: f32,
    skipped: f32,
    last: f32,
}

@group(0) @binding(4) var<storage, read_write> loss_scale: LossScale;

const PATIENCE: f32 = 2000.0;
const LARGEST: f32 = 16777216.0;
#endif

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
        let is_broken = broken[0] != 0u || is_not_finite(sums[0]);
#ifdef LOSS_SCALE
        let scale = loss_scale.scale;
        let may_fall = scale > 1.0;
        let doubles = loss_scale.steps + 1.0 >= PATIENCE;
        let length = sqrt(sums[0]) / scale;
        control.skipped = select(0u, 1u, is_broken);
        loss_scale.last = scale;
        if is_broken {
            loss_scale.scale = max(scale * 0.5, 1.0);
            loss_scale.steps = 0.0;
            loss_scale.skipped += 1.0;
        } else if doubles {
            loss_scale.scale = min(scale * 2.0, LARGEST);
            loss_scale.steps = 0.0;
        } else {
            loss_scale.steps += 1.0;
        }
#else
        const scale = 1.0;
        const may_fall = false;
        let length = sqrt(sums[0]);
#endif
        norm[0] = length;
        if !is_broken {
            control.gradient_scale = min(1.0, params.max_norm / (length + 1e-6)) / scale;
        } else if !may_fall {
            control.halted = 1u;
        }
    }
}
