// output = input, read through its normalisation and activation (see common/source.wgsl)
//
// Tile: 1024 neighbouring pixels of one quad. Dispatch: [ceil(pixels / 1024), quads] workgroups of 256.
#import common/source

struct Params {
    pixels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> source: array<vec4<f32>>;
#ifdef NORMALISE
@group(0) @binding(2) var<storage, read_write> normalisation: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> output: array<vec4<f32>>;
#else
@group(0) @binding(2) var<storage, read_write> output: array<vec4<f32>>;
#endif

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let scaling = scaling_of(workgroup.y);
    let begin = workgroup.x * 1024u;
    let end = min(begin + 1024u, params.pixels);
    for (var pixel = begin + lane; pixel < end; pixel += 256u) {
        let element = workgroup.y * params.pixels + pixel;
        output[element] = load_source(scaling, element);
    }
}
