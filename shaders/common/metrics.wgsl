// What the loss reports of a batch.

struct Metrics {
    loss_sum: f32,
    count: u32,
    top1: u32,
    top5: u32,
    halted: u32,
    reserved_0: u32,
    reserved_1: u32,
    reserved_2: u32,
}

// Marks of a sample's record in place of the rank of its label.
const IGNORED: u32 = 0xffffffffu;
const BROKEN: u32 = 0xfffffffeu;
// Has a part in the loss, but is not counted.
const AUXILIARY: u32 = 0xfffffffdu;
