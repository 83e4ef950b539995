// A workgroup of 256 that reduces over the channels of 16 neighbouring pixels: 16 invocations a pixel, invocation `lane` taking
// pixel `lane % 16` of the tile and every 16th quad from `lane / 16` on. Neighbouring lanes read neighbouring quads.
// The order of every sum is fixed. `positive` is any parameter above zero.
#import common/turns

const LOWEST: f32 = -3.4028234e38;

var<workgroup> channel_tile: array<f32, 256>;

fn tile_sum(lane: u32, value: f32, positive: u32) -> f32 {
    channel_tile[lane] = value;
    workgroupBarrier();
    for (var stride = turns(128u, positive); stride >= 16u; stride >>= 1u) {
        if lane < stride {
            channel_tile[lane] += channel_tile[lane + stride];
        }
        workgroupBarrier();
    }
    let sum = channel_tile[lane & 15u];
    workgroupBarrier();
    return sum;
}

fn tile_max(lane: u32, value: f32, positive: u32) -> f32 {
    channel_tile[lane] = value;
    workgroupBarrier();
    for (var stride = turns(128u, positive); stride >= 16u; stride >>= 1u) {
        if lane < stride {
            channel_tile[lane] = max(channel_tile[lane], channel_tile[lane + stride]);
        }
        workgroupBarrier();
    }
    let largest = channel_tile[lane & 15u];
    workgroupBarrier();
    return largest;
}

// Which of the four channels of a quad are channels of the tensor rather than padding.
fn real_channels(quad: u32, channels: u32) -> vec4<bool> {
    return vec4(quad * 4u) + vec4(0u, 1u, 2u, 3u) < vec4(channels);
}

fn sum_of_four(values: vec4<f32>) -> f32 {
    return (values.x + values.y) + (values.z + values.w);
}
