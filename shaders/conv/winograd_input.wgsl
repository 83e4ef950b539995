// transformed[position, i, tile] = (B^T d B)[position]    d: the ALPHA x ALPHA pixels of channel i that the SIZE x SIZE targets of a tile see
//
// Tile: one tile of one quad an invocation; a launch transforms a slab of the tiles, `stride` apart in its result.
// Dispatch: [ceil(stride * quads / 64)] workgroups of 64, folded.
// The source is read through its normalisation and activation, see common/source.wgsl.
#import common/grid
#import common/source
#import common/turns
#import common/winograd

struct Params {
    // Tiles of a quad in the result; the first of them among all, and how many there are of those.
    stride: u32,
    first_tile: u32,
    tiles: u32,
    tiles_y: u32,
    tiles_x: u32,
    quads: u32,
    source_height: u32,
    source_width: u32,
    source_plane: u32,
    origin_y: i32,
    origin_x: i32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> source: array<vec4<f32>>;
#ifdef NORMALISE
@group(0) @binding(2) var<storage, read_write> normalisation: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> transformed: array<vec4<f32>>;
#else
@group(0) @binding(2) var<storage, read_write> transformed: array<vec4<f32>>;
#endif

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // Surplus invocations repeat the last, and those behind the last tile that tile.
    let at = min(flat_workgroup(workgroup, workgroups) * 64u + lane, params.stride * params.quads - 1u);
    let quad = at / params.stride;
    let slot = at - quad * params.stride;
    let tile = min(params.first_tile + slot, params.tiles - 1u);
    let tile_row = tile / params.tiles_x;
    let image = tile_row / params.tiles_y;
    let first_y = i32((tile_row - image * params.tiles_y) * SIZE) + params.origin_y;
    let first_x = i32((tile - tile_row * params.tiles_x) * SIZE) + params.origin_x;
    let base = quad * params.source_plane + image * params.source_height * params.source_width;
    let scaling = scaling_of(quad);
#for x in 0..ALPHA
    let column_{x} = u32(first_x + {x});
    let inside_{x} = column_{x} < params.source_width;
    let used_{x} = select(0u, column_{x}, inside_{x});
#endfor
    // Two rows a turn, then two columns, see common/turns.wgsl.
    var rows: array<array<vec4<f32>, ALPHA>, ALPHA>;
    let end = turns(ALPHA, params.tiles);
    for (var next = 0u; next < end; next += 2u) {
#for y in 2..ALPHA
        rows[{y} - 2] = rows[{y}];
#endfor
#for y in 0..2
        let source_y_{y} = u32(first_y + i32(next) + {y});
        let row_inside_{y} = source_y_{y} < params.source_height;
        let row_base_{y} = base + select(0u, source_y_{y}, row_inside_{y}) * params.source_width;
        var pixels_{y}: array<vec4<f32>, ALPHA>;
#for x in 0..ALPHA
        pixels_{y}[{x}] = select(vec4<f32>(), load_source(scaling, row_base_{y} + used_{x}), row_inside_{y} && inside_{x});
#endfor
        rows[ALPHA - 2u + {y}u] = input_transform(pixels_{y});
#endfor
    }
    for (var next = 0u; next < end; next += 2u) {
#for x in 0..2
        var points_{x}: array<vec4<f32>, ALPHA>;
#for y in 0..ALPHA
        points_{x}[{y}] = rows[{y}][{x}];
#endfor
        let results_{x} = input_transform(points_{x});
#for y in 0..ALPHA
        transformed[({y}u * ALPHA + next + {x}u) * params.quads * params.stride + at] = results_{x}[{y}];
#endfor
#endfor
#for y in 0..ALPHA
#for x in 2..ALPHA
        rows[{y}][{x} - 2] = rows[{y}][{x}];
#endfor
#endfor
    }
}
