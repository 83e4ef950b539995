// metrics = sums over the samples' records: loss, samples that count, labels of rank below 1 and below 5. A broken record, or a sum
// that is not finite, halts training: the loss is reported as NaN and control.halted set.
//
// Tile: invocation i sums records i, i + 256, ...; then a tree, so the order is fixed. Dispatch: [1] workgroup of 256.
#import common/finite
#import common/metrics
#import common/control

struct Params {
    samples: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> records: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> metrics: Metrics;
@group(0) @binding(3) var<storage, read_write> control: Control;

const QUIET_NAN: u32 = 0x7fc00000u;

var<workgroup> losses: array<f32, 256>;
// Samples that count, rank below 1, rank below 5, broken.
var<workgroup> tallies: array<vec4<u32>, 256>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) lane: u32) {
    var loss = 0.0;
    var tally = vec4(0u);
    for (var sample = lane; sample < params.samples; sample += 256u) {
        let record = records[sample];
        let mark = record.w;
        if mark == BROKEN {
            tally += vec4(1u, 0u, 0u, 1u);
        } else if mark != IGNORED {
            loss += bitcast<f32>(record.x);
            tally += vec4(select(1u, 0u, mark == AUXILIARY), select(0u, 1u, mark < 1u), select(0u, 1u, mark < 5u), 0u);
        }
    }
    losses[lane] = loss;
    tallies[lane] = tally;
    workgroupBarrier();
    // 128, as a number no compiler knows: unrolled, eight barriers take a software device's compiler several times as long as one.
    for (var stride = select(128u, 0u, params.samples == 0u); stride > 0u; stride >>= 1u) {
        if lane < stride {
            losses[lane] += losses[lane + stride];
            tallies[lane] += tallies[lane + stride];
        }
        workgroupBarrier();
    }
    if lane == 0u {
        let broken = tallies[0].w > 0u || is_not_finite(losses[0]);
        if broken {
            control.halted = 1u;
        }
        metrics.loss_sum = bitcast<f32>(select(bitcast<u32>(losses[0]), QUIET_NAN, broken));
        metrics.count = tallies[0].x;
        metrics.top1 = tallies[0].y;
        metrics.top5 = tallies[0].z;
        metrics.halted = control.halted;
        metrics.reserved_0 = 0u;
        metrics.reserved_1 = 0u;
        metrics.reserved_2 = 0u;
    }
}
