//! Offsets for things that live at different times, so that the sum of a given floor and their stack stays low.

use crate::lifetime::Lifetime;

/// Something to place: its lifetime and its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) lifetime: Lifetime,
    pub(crate) bytes: u64,
}

/// What items are sorted by before they are placed, largest first.
type Key<'k> = dyn Fn(usize) -> (u64, u64) + 'k;

/// Rounds of the search for a lower placement, from each order, and after how many that find none it ends.
const ROUNDS: usize = 24;
const IN_VAIN: usize = 8;

/// Offsets of `items`, measured from the far end of the arena, and the height of the arena: the maximum over time of
/// `floor[t]` (what stands at the near end) plus the end of the highest item alive at `t`.
///
/// First fit in several orders; the best is kept. No order is best for all programs, and all of them together take microseconds.
/// `shift` moves a candidate offset up to one that is allowed for so many bytes.
pub(crate) fn pack(
    items: &[Item],
    floor: &[u64],
    shift: &dyn Fn(u64, u64) -> u64,
) -> (Vec<u64>, u64) {
    let live = liveness(items, floor);
    let pressures: Vec<u64> = items.iter().map(|item| highest(&live, item)).collect();
    let duration = |item: &Item| (item.lifetime.last - item.lifetime.first) as u64 + 1;
    let orders: [&Key<'_>; 5] = [
        &|at| (items[at].bytes, duration(&items[at])),
        &|at| (pressures[at], items[at].bytes),
        &|at| (duration(&items[at]), items[at].bytes),
        &|at| (items[at].bytes * duration(&items[at]), 0),
        &|at| (u64::MAX - items[at].lifetime.first as u64, items[at].bytes),
    ];
    let bound = live.iter().copied().max().unwrap_or(0);
    let mut fit = FirstFit::new(items, floor, shift);
    let mut best: Option<(Vec<u64>, u64)> = None;
    let mut orders_tried = Vec::new();
    for key in orders {
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.sort_by_key(|at| (std::cmp::Reverse(key(*at)), *at));
        let height = fit.place(&order);
        if best.as_ref().is_none_or(|(_, least)| height < *least) {
            best = Some((fit.offsets.clone(), height));
        }
        orders_tried.push(order);
        if best.as_ref().is_some_and(|(_, height)| *height == bound) {
            return best.unwrap_or_default();
        }
    }
    // A bounded search above the bound: what ends highest goes first the next time.
    for mut order in orders_tried {
        let (mut lowest, mut in_vain) = (u64::MAX, 0);
        for _ in 0..ROUNDS {
            let height = fit.place(&order);
            let highest = (0..order.len()).find(|at| fit.end(order[*at]) == height);
            if best.as_ref().is_none_or(|(_, least)| height < *least) {
                best = Some((fit.offsets.clone(), height));
            }
            in_vain = if height < lowest { 0 } else { in_vain + 1 };
            lowest = lowest.min(height);
            if in_vain > IN_VAIN {
                break;
            }
            match highest {
                Some(at) if at > 0 && height > bound => order[..=at].rotate_right(1),
                _ => break,
            }
        }
    }
    best.unwrap_or_default()
}

/// Bytes alive at each operation, floor included: no packing can be lower than its maximum.
pub(crate) fn liveness(items: &[Item], floor: &[u64]) -> Vec<u64> {
    let mut live = floor.to_vec();
    for item in items {
        for bytes in &mut live[item.lifetime.first..=item.lifetime.last] {
            *bytes += item.bytes;
        }
    }
    live
}

/// The highest of `levels` while an item lives.
fn highest(levels: &[u64], item: &Item) -> u64 {
    let Lifetime { first, last } = item.lifetime;
    levels[first..=last].iter().copied().max().unwrap_or(0)
}

/// Places items one after the other, each in the lowest place that is free for all of its life.
struct FirstFit<'a> {
    items: &'a [Item],
    shift: &'a dyn Fn(u64, u64) -> u64,
    /// By item: the highest floor while it lives.
    floors: Vec<u64>,
    least: u64,
    offsets: Vec<u64>,
    /// By rising offset.
    placed: Vec<Placed>,
}

/// An item in its place.
struct Placed {
    from: u64,
    to: u64,
    lifetime: Lifetime,
}

impl<'a> FirstFit<'a> {
    fn new(items: &'a [Item], floor: &[u64], shift: &'a dyn Fn(u64, u64) -> u64) -> Self {
        Self {
            items,
            shift,
            floors: items.iter().map(|item| highest(floor, item)).collect(),
            least: floor.iter().copied().max().unwrap_or(0),
            offsets: vec![0; items.len()],
            placed: Vec::with_capacity(items.len()),
        }
    }

    /// Where an item ends, what stands below included.
    fn end(&self, at: usize) -> u64 {
        self.floors[at] + self.offsets[at] + self.items[at].bytes
    }

    /// Places all items in this order, and returns the height.
    fn place(&mut self, order: &[usize]) -> u64 {
        self.placed.clear();
        let mut height = self.least;
        for &at in order {
            let Item { bytes, lifetime } = self.items[at];
            let mut offset = (self.shift)(0, bytes);
            for other in &self.placed {
                if offset + bytes <= other.from {
                    break;
                }
                if other.to > offset && other.lifetime.overlaps(&lifetime) {
                    offset = (self.shift)(other.to, bytes);
                }
            }
            self.offsets[at] = offset;
            let above = self.placed.partition_point(|other| other.from < offset);
            let to = offset + bytes;
            let placed = Placed {
                from: offset,
                to,
                lifetime,
            };
            self.placed.insert(above, placed);
            height = height.max(self.end(at));
        }
        height
    }
}
