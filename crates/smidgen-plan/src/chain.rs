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
    /// Its own peak above what stood on the stack before it, in either pass.
    pub peak: u64,
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
    height: u64,
    cost: f64,
    arc: usize,
    /// The point of the front behind the arc that it goes on to.
    next: usize,
}

/// The undominated paths from block 0 in state 0 to block `blocks` in any state, by falling cost. Fronts of more than `limit`
/// points are thinned evenly in height, both ends kept: then what is found is still a path, but not always the best.
#[must_use]
pub fn undominated(blocks: usize, states: usize, arcs: &[Arc], limit: usize) -> Vec<Path> {
    let mut fronts: Vec<Vec<Vec<Point>>> = vec![vec![Vec::new(); states]; blocks + 1];
    let end = Point {
        height: 0,
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
            found[arc.entry].extend(after.map(|(next, point)| Point {
                height: arc.peak.max(arc.kept + point.height),
                cost: arc.cost + point.cost,
                arc: at,
                next,
            }));
        }
        fronts[from] = found.into_iter().map(|front| prune(front, limit)).collect();
    }
    let paths = fronts[0][0].iter().rev().map(|point| {
        let (mut path, mut point) = (Vec::new(), *point);
        let (height, cost) = (point.height, point.cost);
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

/// What nothing else beats in both height and cost, by rising height; of more than `limit`, one in each of as many cells.
fn prune(mut points: Vec<Point>, limit: usize) -> Vec<Point> {
    points.sort_by(|left, right| {
        (left.height.cmp(&right.height)).then(left.cost.total_cmp(&right.cost))
    });
    let mut least = f64::INFINITY;
    points.retain(|point| {
        let better = point.cost < least;
        least = least.min(point.cost);
        better
    });
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return points;
    };
    if points.len() > limit {
        let (low, step) = (
            first.height,
            (last.height - first.height) / limit as u64 + 1,
        );
        let count = points.len();
        let mut at = 0;
        let mut cell = None;
        points.retain(|point| {
            at += 1;
            // Of each cell the lowest point stays: it fits wherever another of the cell does.
            let own = Some((point.height - low) / step);
            let stays = own != cell || at == count;
            cell = own;
            stays
        });
    }
    points
}
