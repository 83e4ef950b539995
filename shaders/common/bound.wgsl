// The block of an error-bounded stash: the host writes what is wanted, the encoder what was reached.

struct Bound {
    // Twice the bound (less a rounding), and its reciprocal.
    step: f32,
    inverse: f32,
    // Powers of two by which the step was raised at most; 127 where a group held something not finite.
    raised: atomic<u32>,
    raised_groups: atomic<u32>,
    // Values that are not zero.
    nonzero: atomic<u32>,
    reserved_0: u32,
    reserved_1: u32,
    reserved_2: u32,
}
