// gradient[n, c] = scale / count * (softmax(x[n])[c] - (1 - s) * [c = y[n]] - s / C), zero for ignored samples and for padding
// Labels and records are those of the whole batch, of which these samples begin with the `first`.
// count = control.samples, or where that is 0 the samples of the batch that count
//
// Tile: one quad of one sample an invocation. Dispatch: [ceil(ceil(classes / 4) * samples / 256)] workgroups of 256, folded.
#import common/grid
#import common/metrics
#import common/control

struct Params {
    samples: u32,
    classes: u32,
    smoothing: f32,
    scale: f32,
    first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> logits: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> labels: array<u32>;
@group(0) @binding(3) var<storage, read_write> records: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> metrics: Metrics;
@group(0) @binding(5) var<storage, read_write> control: Control;
@group(0) @binding(6) var<storage, read_write> gradient: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let element = flat_workgroup(workgroup, workgroups) * 256u + lane;
    let quads = (params.classes + 3u) / 4u;
    if element >= quads * params.samples {
        return;
    }
    let quad = element / params.samples;
    let sample = element % params.samples;
    let record = records[params.first + sample];
    let classes = vec4(quad * 4u) + vec4(0u, 1u, 2u, 3u);
    let probability = exp(logits[element] - vec4(bitcast<f32>(record.y))) * bitcast<f32>(record.z);
    let hit = select(vec4(0.0), vec4(1.0 - params.smoothing), classes == vec4(labels[params.first + sample]));
    let wanted = hit + vec4(params.smoothing / f32(params.classes));
    let kept = (classes < vec4(params.classes)) & vec4(record.w != IGNORED);
    let count = select(control.samples, metrics.count, control.samples == 0u);
    let factor = params.scale / f32(max(count, 1u));
    gradient[element] = select(vec4(0.0), (probability - wanted) * factor, kept);
}
