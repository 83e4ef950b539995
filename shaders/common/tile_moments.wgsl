// As common/group_moments.wgsl, for a workgroup of PIXEL_LANES by QUAD_LANES invocations whose TILE pixels are PIXEL_LANES apart, in the
// workgroup memory `held` of the importing file: it must be free, of 2 * TILE_QUADS * PIXEL_LANES vectors at least.

// Of the values of one quad (of the workgroup's), a lane stores the first `live`.
fn note_moments(pixel_lane: u32, quad: u32, values: array<vec4<f32>, TILE>, live: u32) {
    var sum = vec4<f32>();
#for pixel in 0..TILE
    sum += select(vec4<f32>(), values[{pixel}], {pixel}u < live);
#endfor
    let mean = sum / max(f32(live), 1.0);
    var squares = vec4<f32>();
#for pixel in 0..TILE
    let difference_{pixel} = select(vec4<f32>(), values[{pixel}] - mean, {pixel}u < live);
    squares += difference_{pixel} * difference_{pixel};
#endfor
    held[quad * PIXEL_LANES + pixel_lane] = mean;
    held[(TILE_QUADS + quad) * PIXEL_LANES + pixel_lane] = squares;
}

// How many of `pixels` that are left to a workgroup a lane stores.
fn live_pixels(pixel_lane: u32, pixels: u32) -> u32 {
    return min((pixels - min(pixel_lane, pixels) + PIXEL_LANES - 1u) / PIXEL_LANES, TILE);
}

// For the whole workgroup, after every lane has noted its own. `pixels` are left to it, one at least.
fn store_moments(lane: u32, group: u32, groups: u32, first_quad: u32, quads: u32, pixels: u32) {
    workgroupBarrier();
    let quad = first_quad + lane;
    if lane < TILE_QUADS && quad < quads {
        // As a number no compiler knows, lest it unrolls what runs once.
        let lanes = select(PIXEL_LANES, 0u, groups == 0u);
        let first = lane * PIXEL_LANES;
        // The first lane stores something in every group that there is.
        let pilot = held[first];
        var count = 0.0;
        var drift = vec4<f32>();
        for (var other = 0u; other < lanes; other++) {
            let its = f32(live_pixels(other, pixels));
            count += its;
            drift += (held[first + other] - pilot) * its;
        }
        let mean = pilot + drift / count;
        var squares = vec4<f32>();
        for (var other = 0u; other < lanes; other++) {
            let difference = held[first + other] - mean;
            squares += held[TILE_QUADS * PIXEL_LANES + first + other] + difference * difference * f32(live_pixels(other, pixels));
        }
        let record = 1u + 3u * (group * quads + quad);
        moments[record] = mean;
        moments[record + 1u] = squares;
        moments[record + 2u] = vec4<f32>(count);
        if group == 0u && quad == 0u {
            moments[0] = vec4<f32>(f32(groups));
        }
    }
}
