// images[n, p] = (bytes[slot(n), p] / 255 - offset) / scale, one quad a pixel, for every sample n that is replayed from a slot of the memory
//
// The words of a batch are planes of one word a sample: its class, its example, its slot (NO_SLOT for none) and its range of classes. The
// first third of the samples are new, the others are replayed.
// Tile: one pixel of one sample an invocation. Dispatch: [ceil(samples * pixels / 256)] workgroups of 256, folded.
#import common/grid
#import common/rehearsal

struct Params {
    samples: u32,
    pixels: u32,
    slots: u32,
    scale_0: f32,
    scale_1: f32,
    scale_2: f32,
    scale_3: f32,
    offset_0: f32,
    offset_1: f32,
    offset_2: f32,
    offset_3: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> words: array<u32>;
@group(0) @binding(2) var<storage, read_write> bytes: array<u32>;
@group(0) @binding(3) var<storage, read_write> images: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let element = flat_workgroup(workgroup, workgroups) * 256u + lane;
    let sample = element / params.pixels;
    if sample >= params.samples || sample < params.samples / 3u {
        return;
    }
    let slot = words[SLOTS * params.samples + sample];
    if slot >= params.slots {
        return;
    }
    let scale = vec4(params.scale_0, params.scale_1, params.scale_2, params.scale_3);
    let offset = vec4(params.offset_0, params.offset_1, params.offset_2, params.offset_3);
    let stored = unpack4x8unorm(bytes[slot * params.pixels + element % params.pixels]);
    images[element] = (stored - offset) / scale;
}
