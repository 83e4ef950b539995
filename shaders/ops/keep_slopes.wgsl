// slopes[c, pixel] = 1 where the activation of a source (see common/scaling.wgsl) has slope 1 there, 0 where it has slope 0
//
// A word holds eight neighbouring pixels of a quad, four bits each. Tile: a word an invocation.
// Dispatch: [ceil(ceil(pixels / 8) / 256), quads] workgroups of 256.
#import common/scaling

struct Params {
    pixels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> source: array<vec4<f32>>;
#ifdef NORMALISE
@group(0) @binding(2) var<storage, read_write> normalisation: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> slopes: array<u32>;
#else
@group(0) @binding(2) var<storage, read_write> slopes: array<u32>;
#endif

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let words = (params.pixels + 7u) / 8u;
    let at = workgroup.x * 256u + lane;
    if at >= words {
        return;
    }
    let scaling = scaling_of(workgroup.y);
    var word = 0u;
    for (var part = 0u; part < 8u; part++) {
        let pixel = at * 8u + part;
        if pixel < params.pixels {
            let slope = activate_derivative(scaled(scaling, source[workgroup.y * params.pixels + pixel]));
            let bits = select(vec4<u32>(), vec4<u32>(1u, 2u, 4u, 8u), slope > vec4<f32>(0.5));
            word |= (bits.x | bits.y | bits.z | bits.w) << (part * 4u);
        }
    }
    slopes[workgroup.y * words + at] = word;
}
