// What is known of a training example, in one word: bit 0, whether its label came first the last time; bit 1, whether it ever did; bit 2,
// whether it was removed (the host's, kept as it is); bits 3 to 15, how often it was forgotten (first, then not); bits 16 to 31, how often
// it was shown before its label came first. Both counts stay at their largest number.

fn shown(record: u32, right: bool) -> u32 {
    let was_right = (record & 1u) != 0u;
    let learned = (record & 2u) != 0u;
    var forgettings = record >> 3u & 0x1fffu;
    var attempts = record >> 16u;
    forgettings = min(forgettings + u32(was_right && !right), 0x1fffu);
    attempts = min(attempts + u32(!learned && !right), 0xffffu);
    return u32(right) | (u32(learned || right) << 1u) | (record & 4u) | (forgettings << 3u) | (attempts << 16u);
}
