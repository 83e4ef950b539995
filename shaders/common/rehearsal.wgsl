// Planes of the words of a batch that rehearses, one word a sample each.

const EXAMPLES: u32 = 1u;
const SLOTS: u32 = 2u;
// The first class that a sample tells apart from others, and from bit 16 on how many there are.
const RANGES: u32 = 3u;
