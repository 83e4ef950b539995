// output = activate(left + right), each term read as scale * term + shift where it is normalised (LEFT_NORMALISE, RIGHT_NORMALISE: four
// vectors a quad, as in common/source.wgsl), then activated where so marked (LEFT_ACTIVATE, RIGHT_ACTIVATE; ACTIVATE: the sum). One
// ACTIVATION_... flag says how. DOUBLE: the right term is the left one, which is bound once.
//
// Tile: 1024 neighbouring pixels of one quad. Dispatch: [ceil(pixels / 1024), quads] workgroups of 256.
#import common/activation

struct Params {
    pixels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> left: array<vec4<f32>>;
#ifdef DOUBLE
const AFTER_RIGHT = 2;
#else
@group(0) @binding(2) var<storage, read_write> right: array<vec4<f32>>;
const AFTER_RIGHT = 3;
#endif
#ifdef LEFT_NORMALISE
@group(0) @binding(AFTER_RIGHT) var<storage, read_write> left_normalisation: array<vec4<f32>>;
const AFTER_LEFT = AFTER_RIGHT + 1;
#else
const AFTER_LEFT = AFTER_RIGHT;
#endif
#ifdef RIGHT_NORMALISE
@group(0) @binding(AFTER_LEFT) var<storage, read_write> right_normalisation: array<vec4<f32>>;
const AFTER_INPUTS = AFTER_LEFT + 1;
#else
const AFTER_INPUTS = AFTER_LEFT;
#endif
@group(0) @binding(AFTER_INPUTS) var<storage, read_write> output: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let quad = workgroup.y;
#ifdef LEFT_NORMALISE
    let left_scale = left_normalisation[4u * quad];
    let left_shift = left_normalisation[4u * quad + 1u];
#endif
#ifdef RIGHT_NORMALISE
    let right_scale = right_normalisation[4u * quad];
    let right_shift = right_normalisation[4u * quad + 1u];
#endif
    let begin = workgroup.x * 1024u;
    let end = min(begin + 1024u, params.pixels);
    for (var pixel = begin + lane; pixel < end; pixel += 256u) {
        let element = quad * params.pixels + pixel;
        var left_term = left[element];
#ifdef LEFT_NORMALISE
        left_term = fma(left_term, left_scale, left_shift);
#endif
#ifdef LEFT_ACTIVATE
        left_term = activate(left_term);
#endif
#ifdef DOUBLE
        let right_term = left_term;
#else
        var right_term = right[element];
#ifdef RIGHT_NORMALISE
        right_term = fma(right_term, right_scale, right_shift);
#endif
#ifdef RIGHT_ACTIVATE
        right_term = activate(right_term);
#endif
#endif
#ifdef ACTIVATE
        output[element] = activate(left_term + right_term);
#else
        output[element] = left_term + right_term;
#endif
    }
}
