// pooled[c, p] = factor * sum over the pixels of patch p:  source[c, y, x]
// AVERAGE:     the sum divided by the number of those pixels
// COUNTS:      also counts[c, p] = of how many of those pixels the activation has slope 1, four channels in the bytes of a word
// TAP_SUMS:    also, by workgroups that follow, tap_sums[o, i] = sum over taps t:  weight[o, t, i], see common/tap_sum.wgsl
// WINDOW:      rows and columns of the windows, where these are the same and cover the map: unrolled
// The source is read through its normalisation and activation, see common/source.wgsl.
//
// Tile: one patch of QUADS quads an invocation, one quad after the other; the last invocations may have fewer.
// Dispatch: [ceil(patches / LANES) * ceil(quads / QUADS)] workgroups of LANES, `pool_groups`, and with TAP_SUMS [ceil(count / LANES)] more, folded.
#import common/grid
#import common/patches
#import common/source

struct Params {
    // Of all images.
    patches: u32,
    pixels: u32,
    quads: u32,
    height: u32,
    width: u32,
    patches_y: u32,
    patches_x: u32,
    window_y: u32,
    window_x: u32,
    offset_y: i32,
    offset_x: i32,
    factor: f32,
    pool_groups: u32,
    count: u32,
    inner: u32,
    taps: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> source: array<vec4<f32>>;
#ifdef NORMALISE
@group(0) @binding(2) var<storage, read_write> normalisation: array<vec4<f32>>;
const POOLED = 3;
#else
const POOLED = 2;
#endif
@group(0) @binding(POOLED) var<storage, read_write> pooled: array<vec4<f32>>;
#ifdef COUNTS
@group(0) @binding(POOLED + 1) var<storage, read_write> counts: array<u32>;
#endif
#ifdef TAP_SUMS
@group(0) @binding(POOLED + 1) var<storage, read_write> weight: array<vec4<f32>>;
@group(0) @binding(POOLED + 2) var<storage, read_write> tap_sums: array<vec4<f32>>;
#import common/tap_sum
#endif

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = flat_workgroup(workgroup, workgroups);
#ifdef TAP_SUMS
    if group >= params.pool_groups {
        sum_taps((group - params.pool_groups) * LANES + lane);
        return;
    }
#endif
    let patch_groups = (params.patches + LANES - 1u) / LANES;
    let quad_group = group / patch_groups;
    let at = (group - quad_group * patch_groups) * LANES + lane;
    if at >= params.patches {
        return;
    }
    let place = patch_place(at, params.patches_y, params.patches_x);
    let rows = patch_rows(place.y, params.patches_y, params.window_y, params.offset_y, params.height);
    let columns = patch_rows(place.x, params.patches_x, params.window_x, params.offset_x, params.width);
    let image = place.image * params.height * params.width;
    let end = min((quad_group + 1u) * QUADS, params.quads);
    for (var quad = quad_group * QUADS; quad < end; quad++) {
        let base = quad * params.pixels + image;
        let scaling = scaling_of(quad);
        var sum = vec4<f32>();
#ifdef COUNTS
        var count = vec4<f32>();
#endif
#ifdef WINDOW
#for row in 0..WINDOW
        let y_{row} = base + min(rows.x + {row}u, params.height - 1u) * params.width;
#for column in 0..WINDOW
        let live_{row}_{column} = rows.x + {row}u < rows.y && columns.x + {column}u < columns.y;
        let element_{row}_{column} = y_{row} + min(columns.x + {column}u, params.width - 1u);
#ifdef COUNTS
        let value_{row}_{column} = scaled(scaling, source[element_{row}_{column}]);
        sum += select(vec4<f32>(), activate(value_{row}_{column}), live_{row}_{column});
        count += select(vec4<f32>(), activate_derivative(value_{row}_{column}), live_{row}_{column});
#else
        sum += select(vec4<f32>(), load_source(scaling, element_{row}_{column}), live_{row}_{column});
#endif
#endfor
#endfor
#else
        for (var y = rows.x; y < rows.y; y++) {
            for (var x = columns.x; x < columns.y; x++) {
#ifdef COUNTS
                let value = scaled(scaling, source[base + y * params.width + x]);
                sum += activate(value);
                count += activate_derivative(value);
#else
                sum += load_source(scaling, base + y * params.width + x);
#endif
            }
        }
#endif
#ifdef COUNTS
        let whole = vec4<u32>(count);
        counts[quad * params.patches + at] = whole.x | (whole.y << 8u) | (whole.z << 16u) | (whole.w << 24u);
#endif
#ifdef AVERAGE
        sum /= f32(max((rows.y - rows.x) * (columns.y - columns.x), 1u));
#endif
        pooled[quad * params.patches + at] = sum * params.factor;
    }
}
