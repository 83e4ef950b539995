// output = input * scale where a random word reaches the threshold, else 0; threshold = rate * 2^32, scale = 1 / (1 - rate).
// The words depend only on the seed of the step, the layer and the element, so backward runs the same kernel on gradients and no
// mask is kept: element `4 * quad + lane` takes word `lane` of random_words(quad, layer, seed, 0). Of a slab of the batch the elements are
// numbered as in the whole map, of which each plane has `plane` pixels and the slab's begin with the `first`.
// IN_PLACE: the output takes the place of the input. Else the input is read through its normalisation and activation.
//
// Tile: 1024 neighbouring pixels of one plane. Dispatch: [ceil(pixels / 1024), planes] workgroups of 256.
#import common/control
#import common/random
#import common/source

struct Params {
    pixels: u32,
    layer: u32,
    threshold: u32,
    scale: f32,
    plane: u32,
    first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> control: Control;
@group(0) @binding(2) var<storage, read_write> source: array<vec4<f32>>;
#ifdef NORMALISE
@group(0) @binding(3) var<storage, read_write> normalisation: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> output: array<vec4<f32>>;
#else
#ifndef IN_PLACE
@group(0) @binding(3) var<storage, read_write> output: array<vec4<f32>>;
#endif
#endif

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let scaling = scaling_of(workgroup.y);
    let begin = workgroup.x * 1024u;
    let end = min(begin + 1024u, params.pixels);
    for (var pixel = begin + lane; pixel < end; pixel += 256u) {
        let quad = workgroup.y * params.pixels + pixel;
        let words = random_words(vec4<u32>(workgroup.y * params.plane + params.first + pixel, params.layer, control.seed, 0u));
        let kept = words >= vec4<u32>(params.threshold);
        let result = select(vec4<f32>(0.0), load_source(scaling, quad) * params.scale, kept);
#ifdef IN_PLACE
        source[quad] = result;
#else
        output[quad] = result;
#endif
    }
}
