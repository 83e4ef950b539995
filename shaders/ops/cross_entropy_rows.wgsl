// For every sample n with logits x and label y, over C classes, with smoothing s:
//   largest = max_c x[c],  total = sum_c exp(x[c] - largest)
//   loss = log(total) - (1 - s) * (x[y] - largest) - s * mean_c (x[c] - largest)
//   rank = number of classes before y: x[c] > x[y], or x[c] = x[y] and c < y
// records[n] = (loss, largest, 1 / total, rank), the first three as bits; the rank is IGNORED for the label 0xffffffff, and BROKEN
// where a logit or the loss is not finite or the label is no class.
// Labels and records are those of the whole batch, of which these samples begin with the `first`.
// FORGETTING: also forgetting[e] of example e = labels[all + n] is told whether the rank was 0, see common/forgetting.wgsl.
//
// Tile: 16 samples, 16 invocations each. Dispatch: [ceil(samples / 16)] workgroups of 256, folded.
#import common/grid
#import common/finite
#import common/metrics
#import common/channel_tile
#ifdef FORGETTING
#import common/forgetting
#endif

struct Params {
    samples: u32,
    classes: u32,
    smoothing: f32,
    // FORGETTING: examples that have a record.
    examples: u32,
    first: u32,
    // Samples of the whole batch.
    all: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> logits: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> labels: array<u32>;
@group(0) @binding(3) var<storage, read_write> records: array<vec4<u32>>;
#ifdef FORGETTING
@group(0) @binding(4) var<storage, read_write> forgetting: array<u32>;
#endif

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let sample = flat_workgroup(workgroup, workgroups) * 16u + (lane & 15u);
    let safe_sample = min(sample, params.samples - 1u);
    let quads = (params.classes + 3u) / 4u;
    let label = labels[params.first + safe_sample];
    let safe_label = min(label, params.classes - 1u);
    let label_logit = logits[(safe_label / 4u) * params.samples + safe_sample][safe_label & 3u];

    var largest_here = LOWEST;
    var broken_here = 0.0;
    var before_here = 0.0;
    for (var quad = lane / 16u; quad < quads; quad += 16u) {
        let values = logits[quad * params.samples + safe_sample];
        let real = real_channels(quad, params.classes);
        if any(are_not_finite(values) & real) {
            broken_here = 1.0;
        }
        let classes = vec4(quad * 4u) + vec4(0u, 1u, 2u, 3u);
        let equal_and_lower = (values == vec4(label_logit)) & (classes < vec4(safe_label));
        let before = real & ((values > vec4(label_logit)) | equal_and_lower);
        before_here += sum_of_four(select(vec4(0.0), vec4(1.0), before));
        let kept = select(vec4(LOWEST), values, real);
        largest_here = max(largest_here, max(max(kept.x, kept.y), max(kept.z, kept.w)));
    }
    let largest = tile_max(lane, largest_here, params.samples);
    let broken = tile_max(lane, broken_here, params.samples);
    let rank = u32(tile_sum(lane, before_here, params.samples));

    var total_here = 0.0;
    var below_here = 0.0;
    for (var quad = lane / 16u; quad < quads; quad += 16u) {
        let below = logits[quad * params.samples + safe_sample] - vec4(largest);
        let real = real_channels(quad, params.classes);
        total_here += sum_of_four(select(vec4(0.0), exp(below), real));
        below_here += sum_of_four(select(vec4(0.0), below, real));
    }
    let total = tile_sum(lane, total_here, params.samples);
    let below = tile_sum(lane, below_here, params.samples);

    if lane < 16u && sample < params.samples {
        let smooth_loss = params.smoothing * below / f32(params.classes);
        let loss = log(total) - (1.0 - params.smoothing) * (label_logit - largest) - smooth_loss;
        var mark = rank;
        if broken > 0.0 || is_not_finite(loss) || label >= params.classes {
            mark = BROKEN;
        }
        if label == IGNORED {
            mark = IGNORED;
        }
        records[params.first + sample] = vec4(bitcast<u32>(loss), bitcast<u32>(largest), bitcast<u32>(1.0 / total), mark);
#ifdef FORGETTING
        let example = labels[params.all + params.first + sample];
        if example < params.examples && label != IGNORED {
            forgetting[example] = shown(forgetting[example], mark == 0u);
        }
#endif
    }
}
