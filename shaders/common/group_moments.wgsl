// What a workgroup of LANES adds to the statistics of the map that it writes, taken while the values are in registers: for each of its QUADS
// quads
//   moments[r] = mean of the pixels it stores, moments[r + 1] = sum over them of (x - mean)^2, moments[r + 2] = how many,
//   r = 1 + 3 * (group * quads + quad); moments[0] = groups.
// ops/batch_norm_statistics_finish.wgsl merges them. Each lane takes the mean of its own pixels first, so that nothing cancels however far from
// zero the mean is; lanes are added in order.
//
// The importing file declares the global binding `moments` and the constants LANES, QUADS and TILE.

var<workgroup> lane_count: array<f32, LANES>;
var<workgroup> lane_mean: array<vec4<f32>, LANES * QUADS>;
var<workgroup> lane_squares: array<vec4<f32>, LANES * QUADS>;

// Of some pixels of one quad: how many, their mean and the sum of their squared deviations from it.
struct Moments {
    count: f32,
    mean: vec4<f32>,
    squares: vec4<f32>,
}

// Of the first `live` values.
fn moments_of(own: array<vec4<f32>, TILE>, live: u32) -> Moments {
    var sum = vec4<f32>();
#for pixel in 0..TILE
    sum += select(vec4<f32>(), own[{pixel}], {pixel}u < live);
#endfor
    let mean = sum / max(f32(live), 1.0);
    var squares = vec4<f32>();
#for pixel in 0..TILE
    let difference_{pixel} = select(vec4<f32>(), own[{pixel}] - mean, {pixel}u < live);
    squares += difference_{pixel} * difference_{pixel};
#endfor
    return Moments(f32(live), mean, squares);
}

fn merged(one: Moments, other: Moments) -> Moments {
    let count = one.count + other.count;
    let part = other.count / max(count, 1.0);
    let drift = other.mean - one.mean;
    return Moments(count, one.mean + drift * part, one.squares + other.squares + drift * drift * (one.count * part));
}

// What a lane stores of one quad.
fn note_moments(lane: u32, quad: u32, own: Moments) {
    lane_count[lane] = own.count;
    lane_mean[quad * LANES + lane] = own.mean;
    lane_squares[quad * LANES + lane] = own.squares;
}

// For the whole workgroup, after every lane has noted its own. A surplus workgroup has no `group` below `groups`, a surplus quad none below
// `quads`.
fn store_moments(lane: u32, group: u32, groups: u32, first_quad: u32, quads: u32) {
    workgroupBarrier();
    if lane < QUADS && first_quad + lane < quads && group < groups {
        // LANES as a number no compiler knows, lest it unrolls what runs once.
        let lanes = select(LANES, 0u, groups == 0u);
        let first = lane * LANES;
        // The first lane stores something in every group that there is.
        let pilot = lane_mean[first];
        var count = 0.0;
        var drift = vec4<f32>();
        for (var other = 0u; other < lanes; other++) {
            count += lane_count[other];
            drift += (lane_mean[first + other] - pilot) * lane_count[other];
        }
        let mean = pilot + drift / count;
        var squares = vec4<f32>();
        for (var other = 0u; other < lanes; other++) {
            let difference = lane_mean[first + other] - mean;
            squares += lane_squares[first + other] + difference * difference * lane_count[other];
        }
        let record = 1u + 3u * (group * quads + first_quad + lane);
        moments[record] = mean;
        moments[record + 1u] = squares;
        moments[record + 2u] = vec4<f32>(count);
        if group == 0u && first_quad + lane == 0u {
            moments[0] = vec4<f32>(f32(groups));
        }
    }
}
