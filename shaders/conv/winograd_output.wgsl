// destination[o, SIZE x SIZE pixels of a tile] = bias[o] + A^T product[o, tile] A
//
// DERIVATIVE: the complete input gradient is multiplied with the derivative of the activation behind which the input stood.
//
// Tile: one tile of one quad an invocation; a launch transforms a slab of the tiles, `stride` apart in its source.
// Dispatch: [ceil(stride * quads / 64)] workgroups of 64, folded.
#import common/grid
#import common/scaling
#import common/turns
#import common/winograd

struct Params {
    // Tiles of a quad in the source; the first of them among all, and how many there are of those.
    stride: u32,
    first_tile: u32,
    tiles: u32,
    tiles_y: u32,
    tiles_x: u32,
    // Quads of the source, and where they stand in the target.
    quads: u32,
    first_quad: u32,
    target_height: u32,
    target_width: u32,
    target_plane: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> product: array<vec4<f32>>;
#ifdef BIAS
@group(0) @binding(2) var<storage, read_write> bias: array<vec4<f32>>;
const AFTER_BIAS = 3;
#else
const AFTER_BIAS = 2;
#endif
#ifdef NORMALISE
@group(0) @binding(AFTER_BIAS) var<storage, read_write> normalisation: array<vec4<f32>>;
const AFTER_NORMALISATION = AFTER_BIAS + 1;
#else
const AFTER_NORMALISATION = AFTER_BIAS;
#endif
#ifdef DERIVATIVE
@group(0) @binding(AFTER_NORMALISATION) var<storage, read_write> activated: array<vec4<f32>>;
@group(0) @binding(AFTER_NORMALISATION + 1) var<storage, read_write> destination: array<vec4<f32>>;
#else
@group(0) @binding(AFTER_NORMALISATION) var<storage, read_write> destination: array<vec4<f32>>;
#endif

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = flat_workgroup(workgroup, workgroups) * 64u + lane;
    let first = min(at, params.stride * params.quads - 1u);
    let source_quad = first / params.stride;
    let slot = first - source_quad * params.stride;
    let quad = params.first_quad + source_quad;
    let tile = params.first_tile + slot;
    let tile_row = tile / params.tiles_x;
    let image = tile_row / params.tiles_y;
    let first_y = (tile_row - image * params.tiles_y) * SIZE;
    let first_x = (tile - tile_row * params.tiles_x) * SIZE;
    // Two rows a turn, then one column a turn, see common/turns.wgsl.
    var rows: array<array<vec4<f32>, SIZE>, ALPHA>;
    let row_end = turns(ALPHA, params.tiles);
    for (var next = 0u; next < row_end; next += 2u) {
#for y in 2..ALPHA
        rows[{y} - 2] = rows[{y}];
#endfor
#for y in 0..2
        var points_{y}: array<vec4<f32>, ALPHA>;
#for x in 0..ALPHA
        points_{y}[{x}] = product[((next + {y}u) * ALPHA + {x}u) * params.quads * params.stride + first];
#endfor
        rows[ALPHA - 2u + {y}u] = output_transform(points_{y});
#endfor
    }
#ifdef BIAS
    let start = bias[quad];
#else
    let start = vec4<f32>();
#endif
    if at != first || tile >= params.tiles {
        return;
    }
#ifdef DERIVATIVE
    let scaling = scaling_of(quad);
#endif
    let base = quad * params.target_plane + (image * params.target_height + first_y) * params.target_width + first_x;
    let column_end = turns(SIZE, params.tiles);
    for (var next = 0u; next < column_end; next++) {
        var column: array<vec4<f32>, ALPHA>;
#for y in 0..ALPHA
        column[{y}] = rows[{y}][0];
#for x in 1..SIZE
        rows[{y}][{x} - 1] = rows[{y}][{x}];
#endfor
#endfor
        let results = output_transform(column);
#for y in 0..SIZE
        if first_y + {y}u < params.target_height && first_x + next < params.target_width {
            let element = base + {y}u * params.target_width + next;
            var result = results[{y}] + start;
#ifdef ACCUMULATE
            result += destination[element];
#endif
#ifdef DERIVATIVE
            result = before_activation(scaling, element, result);
#endif
            destination[element] = result;
        }
#endfor
    }
}
