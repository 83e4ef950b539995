// output = input * scale where a random word reaches the threshold, else 0; threshold = rate * 2^32, scale = 1 / (1 - rate).
// The words depend only on the seed of the step, the layer and the element, so backward runs the same kernel on gradients and no
// mask is kept: element `4 * quad + lane` takes word `lane` of random_words(quad, layer, seed, 0).
// IN_PLACE: the output takes the place of the input.
//
// Tile: 1024 neighbouring quads. Dispatch: [ceil(count / 1024)] workgroups of 256, folded.
#import common/grid
#import common/control
#import common/random

struct Params {
    count: u32,
    layer: u32,
    threshold: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> control: Control;
@group(0) @binding(2) var<storage, read_write> input: array<vec4<f32>>;
#ifndef IN_PLACE
@group(0) @binding(3) var<storage, read_write> output: array<vec4<f32>>;
#endif

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let begin = flat_workgroup(workgroup, workgroups) * 1024u;
    let end = min(begin + 1024u, params.count);
    for (var quad = begin + lane; quad < end; quad += 256u) {
        let words = random_words(vec4<u32>(quad, params.layer, control.seed, 0u));
        let kept = words >= vec4<u32>(params.threshold);
        let result = select(vec4<f32>(0.0), input[quad] * params.scale, kept);
#ifdef IN_PLACE
        input[quad] = result;
#else
        output[quad] = result;
#endif
    }
}
