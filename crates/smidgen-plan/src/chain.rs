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

impl Arc {
    /// The heights of a point that nothing behind it raises: no point that begins with it has lower ones.
    fn lowest(&self) -> (u64, u64) {
        if self.copied {
            (self.behind, self.before)
        } else {
            (0, self.before.max(self.behind))
        }
    }
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

    /// Whether it is cheaper than another, or as cheap and no higher.
    fn is_first(&self, other: &Self) -> bool {
        let order = self.cost.total_cmp(&other.cost);
        order.then(self.height().cmp(&other.height())).is_le()
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

/// The undominated paths from block 0 in state 0 to block `blocks` in any state, by rising cost. Fronts of more than `limit`
/// points are thinned evenly in height, the cheapest point and what leads to the lowest path kept: then what is found is still a path, but not always the best.
/// Paths above `ceiling` are left out, which leaves room for more of those below.
#[must_use]
pub fn undominated(
    blocks: usize,
    states: usize,
    arcs: &[Arc],
    limit: usize,
    ceiling: u64,
) -> Vec<Path> {
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
    // What stands below each block at least.
    let mut below = vec![0; blocks];
    for from in 1..blocks {
        let arcs = arcs.iter().filter(|arc| arc.to == from);
        below[from] = arcs
            .map(|arc| below[arc.from] + arc.kept)
            .min()
            .unwrap_or(0);
    }
    for from in (0..blocks).rev() {
        let mut found: Vec<Vec<Point>> = vec![Vec::new(); states];
        let mut more: Vec<Point> = Vec::new();
        for &at in &leaving[from] {
            let arc = &arcs[at];
            let behind = fronts[arc.to][arc.exit].iter().enumerate();
            let points = behind.map(|(next, point)| {
                let (copies, others) = point.behind(arc);
                Point {
                    copies,
                    others,
                    cost: arc.cost + point.cost,
                    arc: at,
                    next,
                }
            });
            let below = below[from];
            let points = points.filter(|point| below + point.height() <= ceiling);
            let lowest = arc.lowest();
            more.clear();
            // What follows one that is as low as an arc can be costs more and is no lower.
            for point in points {
                more.push(point);
                if (point.copies, point.others) == lowest {
                    break;
                }
            }
            let front = &mut found[arc.entry];
            if !arc.copied {
                leave_better(&mut more, front);
            }
            if more.is_empty() {
                continue;
            }
            let known = std::mem::take(front);
            *front = merged(known, more.drain(..));
            thin(&mut found[arc.entry], limit, limit.saturating_mul(2));
        }
        found.iter_mut().for_each(|front| thin(front, limit, limit));
        fronts[from] = found;
    }
    let paths = fronts[0][0].iter().map(|point| {
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

/// Drops what one of a front beats, all of which have one height; both by rising cost.
fn leave_better(points: &mut Vec<Point>, front: &[Point]) {
    let mut at = 0;
    points.retain(|point| {
        at += front[at..]
            .iter()
            .take_while(|known| known.is_first(point))
            .count();
        at == 0 || front[at - 1].others > point.others
    });
}

/// What nothing else beats in both heights and cost, of two lists by rising cost; in the same order.
fn merged(known: Vec<Point>, more: impl Iterator<Item = Point>) -> Vec<Point> {
    let mut points = Vec::with_capacity(known.len());
    let mut stairs = Stairs::default();
    let (mut known, mut more) = (known.into_iter().peekable(), more.peekable());
    loop {
        let next = match (known.peek(), more.peek()) {
            (Some(left), Some(right)) if left.is_first(right) => known.next(),
            (_, Some(_)) => more.next(),
            _ => known.next(),
        };
        let Some(point) = next else { break };
        if stairs.add(&point) {
            points.push(point);
        }
    }
    points
}

/// Of points, those that no other beats in both heights: `(copies, others)` by rising copies, and so by falling others.
#[derive(Default)]
struct Stairs(Vec<(u64, u64)>);

impl Stairs {
    /// Adds a point unless one that is there beats it; tells whether it did.
    fn add(&mut self, point: &Point) -> bool {
        let stairs = &mut self.0;
        let above = stairs.partition_point(|(copies, _)| *copies <= point.copies);
        let before = above.checked_sub(1).map(|at| stairs[at]);
        if before.is_some_and(|(_, others)| others <= point.others) {
            return false;
        }
        let same = before.is_some_and(|(copies, _)| copies == point.copies);
        let begin = above - usize::from(same);
        let beaten = stairs[begin..].partition_point(|(_, others)| *others >= point.others);
        let stair = (point.copies, point.others);
        if beaten == 1 {
            stairs[begin] = stair;
        } else {
            stairs.splice(begin..begin + beaten, [stair]);
        }
        true
    }

    fn has(&self, point: &Point) -> bool {
        let found = self.0.binary_search(&(point.copies, point.others));
        found.is_ok()
    }
}

/// Leaves about `limit` of points by rising cost, if they are more than so many: in each of half as many cells of even heights the lowest, which fits wherever another of the cell does, and
/// the cheapest; and those that no other beats in both heights whatever it costs: one of these leads to what is lowest in the end.
fn thin(points: &mut Vec<Point>, limit: usize, most: usize) {
    if points.len() <= most {
        return;
    }
    let cells = (limit / 2).max(1);
    let mut stairs = Stairs::default();
    for point in points.iter() {
        stairs.add(point);
    }
    let heights = || points.iter().map(Point::height);
    let (low, high) = (heights().min().unwrap_or(0), heights().max().unwrap_or(0));
    let step = (high - low) / cells as u64 + 1;
    // By cell: the cheapest and the lowest.
    let mut best: Vec<Option<[usize; 2]>> = vec![None; cells];
    for (at, point) in points.iter().enumerate() {
        let cell = ((point.height() - low) / step) as usize;
        let [_, lowest] = best[cell].get_or_insert([at, at]);
        if point.height() < points[*lowest].height() {
            *lowest = at;
        }
    }
    let mut stays = vec![false; points.len()];
    for at in best.into_iter().flatten().flatten() {
        stays[at] = true;
    }
    for (stays, point) in stays.iter_mut().zip(points.iter()) {
        *stays |= stairs.has(point);
    }
    let mut stays = stays.into_iter();
    points.retain(|_| stays.next().unwrap_or(true));
}
