// The first step of a tree over the lanes that hold something: half of the smallest power of two that is no less. A number no compiler knows:
// unrolled, eight barriers take a software device's compiler several times as long as one.
fn first_half(lanes: u32) -> u32 {
    return (1u << (32u - countLeadingZeros(lanes - 1u))) >> 1u;
}
