//! Offsets for things that live at different times, so that the sum of a given floor and their stack stays low.

use crate::lifetime::Lifetime;

/// Something to place: its lifetime and its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) lifetime: Lifetime,
    pub(crate) bytes: u64,
}

/// What items are sorted by before they are placed, largest first.
type Key<'k> = dyn Fn(&Item) -> (u64, u64) + 'k;

/// Rounds of the search for a lower placement, from each order.
const ROUNDS: usize = 24;

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
    let pressure = |item: &Item| {
        live[item.lifetime.first..=item.lifetime.last]
            .iter()
            .copied()
            .max()
            .unwrap_or(0)
    };
    let duration = |item: &Item| (item.lifetime.last - item.lifetime.first) as u64 + 1;
    let orders: [&Key<'_>; 5] = [
        &|item| (item.bytes, duration(item)),
        &|item| (pressure(item), item.bytes),
        &|item| (duration(item), item.bytes),
        &|item| (item.bytes * duration(item), 0),
        &|item| (u64::MAX - item.lifetime.first as u64, item.bytes),
    ];
    let bound = live.iter().copied().max().unwrap_or(0);
    let mut best: Option<(Vec<u64>, u64)> = None;
    let mut orders_tried = Vec::new();
    for key in orders {
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.sort_by_key(|at| (std::cmp::Reverse(key(&items[*at])), *at));
        let candidate = first_fit(items, floor, &order, shift);
        if best
            .as_ref()
            .is_none_or(|(_, height)| candidate.1 < *height)
        {
            best = Some(candidate);
        }
        orders_tried.push(order);
        if best.as_ref().is_some_and(|(_, height)| *height == bound) {
            return best.unwrap_or_default();
        }
    }
    // A bounded search above the bound: what ends highest goes first the next time.
    let end = |offsets: &[u64], at: usize| {
        let Lifetime { first, last } = items[at].lifetime;
        let below = floor[first..=last].iter().copied().max().unwrap_or(0);
        below + offsets[at] + items[at].bytes
    };
    for mut order in orders_tried {
        for _ in 0..ROUNDS {
            let (offsets, height) = first_fit(items, floor, &order, shift);
            let highest = (0..order.len()).find(|at| end(&offsets, order[*at]) == height);
            if best.as_ref().is_none_or(|(_, least)| height < *least) {
                best = Some((offsets, height));
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

fn first_fit(
    items: &[Item],
    floor: &[u64],
    order: &[usize],
    shift: &dyn Fn(u64, u64) -> u64,
) -> (Vec<u64>, u64) {
    let mut offsets = vec![0; items.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut height = floor.iter().copied().max().unwrap_or(0);
    for &at in order {
        let item = &items[at];
        let mut neighbours: Vec<(u64, u64)> = placed
            .iter()
            .filter(|other| items[**other].lifetime.overlaps(&item.lifetime))
            .map(|other| (offsets[*other], offsets[*other] + items[*other].bytes))
            .collect();
        neighbours.sort_unstable();
        let mut offset = shift(0, item.bytes);
        for (from, to) in neighbours {
            if offset + item.bytes <= from {
                break;
            }
            offset = shift(offset.max(to), item.bytes);
        }
        offsets[at] = offset;
        placed.push(at);
        let below = floor[item.lifetime.first..=item.lifetime.last]
            .iter()
            .copied()
            .max()
            .unwrap_or(0);
        height = height.max(below + offset + item.bytes);
    }
    (offsets, height)
}
