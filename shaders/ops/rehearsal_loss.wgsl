// The loss of DER++ over samples n with logits x and label y. B = samples / 3 of them are new, B distilled, B repeated:
//   new:        -log softmax(x)[y] over the classes of its range alone
//   distilled:  distillation * mean_c (x[c] - kept[slot][c])^2
//   repeated:   -repetition * log softmax(x)[y] over the classes of its range
// gradient[n, c] = scale / B * (the derivative by x[c]), zero outside of the range, for ignored samples and for padding.
// records[n] = (loss, 0, 0, mark), the loss as bits: the mark of a new sample is the number of classes of its range before y, of others
// AUXILIARY; IGNORED for the label 0xffffffff, and BROKEN where something is not finite or the label is not in the range.
// FORGETTING: forgetting[e] of the example e of a new sample is told whether the rank was 0, see common/forgetting.wgsl.
//
// Tile: one sample an invocation. Dispatch: [ceil(samples / 64)] workgroups of 64, folded.
#import common/grid
#import common/finite
#import common/metrics
#import common/rehearsal
#ifdef FORGETTING
#import common/forgetting
#endif

struct Params {
    samples: u32,
    classes: u32,
    slots: u32,
    distillation: f32,
    repetition: f32,
    scale: f32,
    // FORGETTING: examples that have a record.
    examples: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> logits: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> words: array<u32>;
@group(0) @binding(3) var<storage, read_write> kept: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> records: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> gradient: array<vec4<f32>>;
#ifdef FORGETTING
@group(0) @binding(6) var<storage, read_write> forgetting: array<u32>;
#endif

const CLASSES_OF_A_QUAD: vec4<u32> = vec4<u32>(0u, 1u, 2u, 3u);

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let sample = flat_workgroup(workgroup, workgroups) * 64u + lane;
    if sample >= params.samples {
        return;
    }
    let fresh = params.samples / 3u;
    let quads = (params.classes + 3u) / 4u;
    let label = words[sample];
    let slot = words[SLOTS * params.samples + sample];
    let range = words[RANGES * params.samples + sample];
    let first = range & 0xffffu;
    let end = min(first + (range >> 16u), params.classes);
    let is_new = sample < fresh;
    let is_distilled = !is_new && sample < 2u * fresh;
    let factor = params.scale / f32(fresh);

    if label == IGNORED {
        for (var quad = 0u; quad < quads; quad++) {
            gradient[quad * params.samples + sample] = vec4<f32>();
        }
        records[sample] = vec4(0u, 0u, 0u, IGNORED);
        return;
    }

    var broken = label < first || label >= end;
    var loss = 0.0;
    var rank = 0u;
    if is_distilled {
        let safe_slot = min(slot, params.slots - 1u);
        broken = slot >= params.slots;
        var squares = 0.0;
        for (var quad = 0u; quad < quads; quad++) {
            let real = vec4(quad * 4u) + CLASSES_OF_A_QUAD < vec4(params.classes);
            let distance = logits[quad * params.samples + sample] - kept[safe_slot * quads + quad];
            let counted = select(vec4<f32>(), distance, real);
            squares += dot(counted, counted);
            gradient[quad * params.samples + sample] = counted * (2.0 * params.distillation / f32(params.classes) * factor);
        }
        loss = params.distillation * squares / f32(params.classes);
    } else {
        let weight = select(params.repetition, 1.0, is_new);
        let safe_label = min(label, params.classes - 1u);
        let own = logits[(safe_label / 4u) * params.samples + sample][safe_label & 3u];
        var largest = -3.4028234e38;
        for (var class_at = first; class_at < end; class_at++) {
            let value = logits[(class_at / 4u) * params.samples + sample][class_at & 3u];
            broken = broken || is_not_finite(value);
            largest = max(largest, value);
            rank += u32(value > own || (value == own && class_at < label));
        }
        var total = 0.0;
        for (var class_at = first; class_at < end; class_at++) {
            total += exp(logits[(class_at / 4u) * params.samples + sample][class_at & 3u] - largest);
        }
        loss = weight * (log(total) - (own - largest));
        for (var quad = 0u; quad < quads; quad++) {
            let classes = vec4(quad * 4u) + CLASSES_OF_A_QUAD;
            let inside = (classes >= vec4(first)) & (classes < vec4(end));
            let probability = exp(logits[quad * params.samples + sample] - vec4(largest)) / total;
            let hit = select(vec4(0.0), vec4(1.0), classes == vec4(label));
            gradient[quad * params.samples + sample] = select(vec4<f32>(), (probability - hit) * (weight * factor), inside);
        }
    }
    var mark = select(AUXILIARY, rank, is_new);
    if broken || is_not_finite(loss) {
        mark = BROKEN;
    }
    records[sample] = vec4(bitcast<u32>(loss), 0u, 0u, mark);
#ifdef FORGETTING
    let example = words[EXAMPLES * params.samples + sample];
    if is_new && example < params.examples {
        forgetting[example] = shown(forgetting[example], mark == 0u);
    }
#endif
}
