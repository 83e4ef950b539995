// Clears what the encoder of an error-bounded stash counts.
//
// Dispatch: [1] workgroup of 1.
#import common/bound

@group(0) @binding(0) var<storage, read_write> bound: Bound;

@compute @workgroup_size(1)
fn main() {
    atomicStore(&bound.raised, 0u);
    atomicStore(&bound.raised_groups, 0u);
    atomicStore(&bound.nonzero, 0u);
}
