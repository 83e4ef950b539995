// Writes the block of an error-bounded stash whole: the bound that is wanted, and nothing counted yet.
//
// Tile: the block, one invocation. Dispatch: [1] workgroup of 1.
#import common/bound

struct Params {
    step: f32,
    inverse: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> bound: Bound;

@compute @workgroup_size(1)
fn main() {
    bound.step = params.step;
    bound.inverse = params.inverse;
    atomicStore(&bound.raised, 0u);
    atomicStore(&bound.raised_groups, 0u);
    atomicStore(&bound.nonzero, 0u);
    bound.reserved_0 = 0u;
    bound.reserved_1 = 0u;
    bound.reserved_2 = 0u;
}
