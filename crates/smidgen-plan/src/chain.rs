//! The least time for every budget, over a chain of blocks.
//!
//! Backward visits the blocks of a chain in reverse and drops what each has stashed, so that below the stashes of block `j` there
//! stands the same in its backward as in its forward pass. With `s` bytes that an arc (a way to run one block, or several in a
//! row) leaves on the stack, `p` its peak above what stood there before, and `t` its time, the least heights and times of all that
//! follows obey
//!
//! ```text
//! F_j = the undominated of { (max(p, s + H), t + T) : arcs from j to k, (H, T) in F_k },   F_end = { (0, 0) }
//! ```
//!
//! which gives the whole curve of times over budgets at once, and needs no budget to begin with. States tie an arc to its
//! neighbours: how the tensor between them is held.
//!
//! Where that tensor is made again, it may be made of the tensor before it, which is made again too, and so on. All of these copies stand
//! from the moment at which the last of them is first read: late in the backward pass of one block and in that of the blocks before it, but not further on. So a point
//! has two heights: that of the moments at which the copies stand that its first block is entered with, and that of all others. With `c` bytes that an arc
//! has made again for the block behind it, `b` its peak before what it is entered with is read, and `a` after,
//!
//! ```text
//! (C, R)  ->  (max(a, c + s + C), max(b, s + R))
//! ```
//!
//! if what it is entered with is among these copies.

use std::collections::BTreeMap;

/// One way to run the blocks `from .. to`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arc {
    /// First block.
    pub from: usize,
    /// The block after the last.
    pub to: usize,
    /// The state it must be entered in.
    pub entry: usize,
    /// The state it is left in.
    pub exit: usize,
    /// Bytes it leaves on the stack until its backward pass.
    pub kept: u64,
    /// Its own peak above what stood on the stack before it, until its backward pass first needs what it is entered with.
    pub before: u64,
    /// The same from then on, what it is entered with included if that is made again.
    pub behind: u64,
    /// Bytes that are made again of what is stashed here or before, to make the tensor it is left with.
    pub made: u64,
    /// Whether the tensor it is entered with is among these.
    pub linked: bool,
    /// Whether the tensor it is entered with is made again.
    pub copied: bool,
    /// What it costs: its time, or time and weighted variance.
    pub cost: f64,
}

/// A path through the chain that nothing dominates.
#[derive(Debug, Clone, PartialEq)]
pub struct Path {
    /// Bytes at the highest moment.
    pub height: u64,
    /// Sum of the costs.
    pub cost: f64,
    /// Indices of the arcs, in order.
    pub arcs: Vec<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Point {
    /// At the moments at which copies stand of what the first block is entered with; 0 if that is held.
    copies: u64,
    /// At all others.
    others: u64,
    cost: f64,
    arc: usize,
    /// The point of the front behind the arc that it goes on to.
    next: usize,
}

impl Point {
    fn height(&self) -> u64 {
        self.copies.max(self.others)
    }

    /// This point behind an arc.
    fn behind(&self, arc: &Arc) -> (u64, u64) {
        let copies = arc.kept + arc.made + self.copies;
        let others = arc.before.max(arc.kept + self.others);
        match (arc.copied, arc.linked) {
            (true, true) => (copies.max(arc.behind), others),
            (true, false) => (arc.behind, others.max(copies)),
            (false, _) => (0, others.max(copies).max(arc.behind)),
        }
    }
}

/// The undominated paths from block 0 in state 0 to block `blocks` in any state, by falling cost. Fronts of more than `limit`
/// points are thinned evenly in height, both ends kept: then what is found is still a path, but not always the best.
#[must_use]
pub fn undominated(blocks: usize, states: usize, arcs: &[Arc], limit: usize) -> Vec<Path> {
    let mut fronts: Vec<Vec<Vec<Point>>> = vec![vec![Vec::new(); states]; blocks + 1];
    let end = Point {
        copies: 0,
        others: 0,
        cost: 0.0,
        arc: usize::MAX,
        next: 0,
    };
    fronts[blocks] = vec![vec![end]; states];
    let mut leaving: Vec<Vec<usize>> = vec![Vec::new(); blocks];
    for (at, arc) in arcs.iter().enumerate() {
        leaving[arc.from].push(at);
    }
    for from in (0..blocks).rev() {
        let mut found: Vec<Vec<Point>> = vec![Vec::new(); states];
        for &at in &leaving[from] {
            let arc = &arcs[at];
            let after = fronts[arc.to][arc.exit].iter().enumerate();
            found[arc.entry].extend(after.map(|(next, point)| {
                let (copies, others) = point.behind(arc);
                Point {
                    copies,
                    others,
                    cost: arc.cost + point.cost,
                    arc: at,
                    next,
                }
            }));
        }
        fronts[from] = found.into_iter().map(|front| prune(front, limit)).collect();
    }
    let paths = fronts[0][0].iter().rev().map(|point| {
        let (mut path, mut point) = (Vec::new(), *point);
        let (height, cost) = (point.height(), point.cost);
        while point.arc != usize::MAX {
            let arc = &arcs[point.arc];
            path.push(point.arc);
            point = fronts[arc.to][arc.exit][point.next];
        }
        Path {
            height,
            cost,
            arcs: path,
        }
    });
    paths.collect()
}

/// What nothing else beats in both heights and cost, by rising height; of more than `limit`, the lowest and the cheapest in each of half as many
/// cells.
fn prune(mut points: Vec<Point>, limit: usize) -> Vec<Point> {
    points.sort_by(|left, right| {
        (left.cost.total_cmp(&right.cost)).then(left.height().cmp(&right.height()))
    });
    // Of the points so far, by rising `copies` and so by falling `others`, those that no other beats.
    let mut stairs: BTreeMap<u64, u64> = BTreeMap::new();
    points.retain(|point| {
        let beaten = stairs.range(..=point.copies).next_back();
        if beaten.is_some_and(|(_, others)| *others <= point.others) {
            return false;
        }
        let above = stairs.range(point.copies..);
        let beats: Vec<u64> = above
            .take_while(|(_, others)| **others >= point.others)
            .map(|(copies, _)| *copies)
            .collect();
        for copies in beats {
            stairs.remove(&copies);
        }
        stairs.insert(point.copies, point.others);
        true
    });
    points.sort_by(|left, right| {
        (left.height().cmp(&right.height())).then(left.cost.total_cmp(&right.cost))
    });
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return points;
    };
    if points.len() <= limit {
        return points;
    }
    let (low, span) = (first.height(), last.height() - first.height());
    let step = span / (limit as u64 / 2).max(1) + 1;
    // Of each cell the lowest point stays, which fits wherever another of the cell does.
    let cells = points
        .chunk_by(|left, right| (left.height() - low) / step == (right.height() - low) / step);
    let ends = cells.flat_map(|cell| {
        let cheapest = cell
            .iter()
            .min_by(|left, right| left.cost.total_cmp(&right.cost));
        [cell.first(), cheapest.filter(|_| cell.len() > 1)]
    });
    ends.flatten().copied().collect()
}
