// product[position, o, tile] = sum over source channels i:  weight[position, o, i] * source[position, i, tile]
//
// Tile: an invocation computes TILE tiles, LANES apart so that neighbours read neighbouring memory, by QUADS target quads of one position.
// Dispatch: [ALPHA^2 * stride / (LANES * TILE) * target_quads / QUADS] workgroups of LANES, folded.
// SUBGROUP: the lanes of a subgroup of that size load a block of weights together, LOADS = ceil(4 * QUADS / SUBGROUP) vectors each, and
// broadcast them; without it every invocation loads all it needs.
#import common/grid

struct Params {
    groups: u32,
    // Tiles of a quad, a multiple of LANES * TILE.
    stride: u32,
    tile_groups: u32,
    quad_groups: u32,
    source_quads: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> source: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> weight: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> product: array<vec4<f32>>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
#ifdef SUBGROUP
    @builtin(subgroup_invocation_id) subgroup_lane: u32,
#endif
) {
    // A grid that is folded may have surplus workgroups; they repeat the last.
    let group = min(flat_workgroup(workgroup, workgroups), params.groups - 1u);
    let tile_group = group / params.quad_groups;
    let target_quad = (group - tile_group * params.quad_groups) * QUADS;
    let position = tile_group / params.tile_groups;
    let first_tile = (tile_group - position * params.tile_groups) * (LANES * TILE) + lane;
    let target_quads = params.quad_groups * QUADS;
    let source_base = position * params.source_quads * params.stride + first_tile;
    let weight_base = (position * target_quads + target_quad) * params.source_quads * 4u;

#for tile in 0..TILE
#for quad in 0..QUADS
    var sum_{tile}_{quad} = vec4<f32>();
#endfor
#endfor
    for (var source_quad = 0u; source_quad < params.source_quads; source_quad++) {
#for tile in 0..TILE
        let value_{tile} = source[source_base + source_quad * params.stride + {tile}u * LANES];
#endfor
#ifdef SUBGROUP
        // Each lane loads one vector of the blocks; the subgroup shares them.
        var loaded: array<vec4<f32>, LOADS>;
#for load in 0..LOADS
        let entry_{load} = min(subgroup_lane + {load}u * SUBGROUP, QUADS * 4u - 1u);
        loaded[{load}] = weight[weight_base + (entry_{load} / 4u * params.source_quads + source_quad) * 4u + entry_{load} % 4u];
#endfor
#endif
#for quad in 0..QUADS
#for row in 0..4
#ifdef SUBGROUP
        let weight_{quad}_{row} = subgroupBroadcast(loaded[({quad}u * 4u + {row}u) / SUBGROUP], ({quad}u * 4u + {row}u) % SUBGROUP);
#else
        let weight_{quad}_{row} = weight[weight_base + ({quad}u * params.source_quads + source_quad) * 4u + {row}u];
#endif
#endfor
#for tile in 0..TILE
#for row in 0..4
        sum_{tile}_{quad} = fma(weight_{quad}_{row}, vec4<f32>(value_{tile}[{row}]), sum_{tile}_{quad});
#endfor
#endfor
#endfor
    }
    let target_base = (position * target_quads + target_quad) * params.stride + first_tile;
#for tile in 0..TILE
#for quad in 0..QUADS
    product[target_base + {quad}u * params.stride + {tile}u * LANES] = sum_{tile}_{quad};
#endfor
#endfor
}
