// One launch over many regions, each a range of elements of what is bound: which of them a workgroup works on.
// Two vectors an entry: first workgroup, elements, and where its parameter and its gradient begin; where its states begin, and its first slot. Places
// are in quads. Entries are in the order of their workgroups; those that are not used begin at the last workgroup there can be.
//
// The importing file declares `params.entries`, an array of 2 * ENTRIES vectors.

const ENTRIES: u32 = 64u;

struct Entry {
    first_group: u32,
    count: u32,
    parameter: u32,
    gradient: u32,
    first_state: u32,
    second_state: u32,
    first_slot: u32,
}

#ifdef TABLE
fn entry_of(group: u32) -> Entry {
    var at = 0u;
    for (var step = ENTRIES / 2u; step > 0u; step /= 2u) {
        at += select(0u, step, params.entries[2u * (at + step)].x <= group);
    }
    let low = params.entries[2u * at];
    let high = params.entries[2u * at + 1u];
    return Entry(low.x, low.y, low.z, low.w, high.x, high.y, high.z);
}
#endif
