// output[quad, image] = mean over the pixels of the image of input[quad, image, pixel]
//
// The input is read through its normalisation and activation, see common/source.wgsl.
// Tile: one image of one quad, lanes along its pixels, then a tree. Dispatch: [quads * images] workgroups of 64, folded.
#import common/grid
#import common/source
#import common/turns

struct Params {
    image_pixels: u32,
    images: u32,
    count: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> source: array<vec4<f32>>;
#ifdef NORMALISE
@group(0) @binding(2) var<storage, read_write> normalisation: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> output: array<vec4<f32>>;
#else
@group(0) @binding(2) var<storage, read_write> output: array<vec4<f32>>;
#endif

var<workgroup> lane_sum: array<vec4<f32>, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // Images of one quad follow each other, as do their pixels: the flat index is both that of the output and of the plane.
    let image = flat_workgroup(workgroup, workgroups);
    var sum = vec4<f32>(0.0);
    if image < params.count {
        let scaling = scaling_of(image / params.images);
        for (var pixel = lane; pixel < params.image_pixels; pixel += 64u) {
            sum += load_source(scaling, image * params.image_pixels + pixel);
        }
    }
    lane_sum[lane] = sum;
    for (var half = turns(32u, params.count); half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            lane_sum[lane] += lane_sum[lane + half];
        }
    }
    if lane == 0u && image < params.count {
        output[image] = lane_sum[0] / f32(params.image_pixels);
    }
}
