//! Which filters are enough and bend the gradients least, asking for few plans.

use std::collections::BTreeSet;

type Set = BTreeSet<usize>;

/// Branches of the search for a set that meets all that is known, at most.
const BRANCHES: usize = 200_000;

/// Of filters with these biases, a set that is enough, of the least total bias, if `most` questions suffice to find it; else of the least that was
/// found. All of them together are enough, and none is not; `enough` is asked about sets of their indices. `order`, in which they seem to be worth
/// their bias, is where the search begins.
///
/// It mostly takes for granted that a set stays enough with one filter more. A set that is not enough is made as large as it goes, and what is enough then
/// has at least one of those that are left over. The set of least bias that has one of each such remainder is asked about next: it has at most
/// the bias sought, so if it is enough, nothing better is (an implicit hitting set, as in Davies and Bacchus, "Solving MAXSAT by solving a sequence of
/// simpler SAT instances", 2011). There are no more than 30 questions about five filters.
///
/// # Errors
/// Those of `enough`.
pub(super) fn least_bias<E>(
    bias: &[f64],
    order: &[usize],
    most: usize,
    enough: impl FnMut(&Set) -> Result<bool, E>,
) -> Result<Set, E> {
    let all: Set = (0..bias.len()).collect();
    let mut search = Search {
        bias,
        enough,
        left: most,
        failing: vec![Set::new()],
        best: all,
    };
    // As many of the first as it takes, and of these none that is not missed.
    search.grow(&Set::new(), order)?;
    search.drop_what_is_not_missed()?;
    let reversed: Vec<usize> = order.iter().rev().copied().collect();
    while let Some(least) = search.least() {
        match search.ask(&least)? {
            None | Some(true) => break,
            // Those that give least first, so that few are left over.
            Some(false) => search.grow(&least, &reversed)?,
        }
    }
    search.drop_what_is_not_missed()?;
    Ok(search.best)
}

struct Search<'a, Enough> {
    bias: &'a [f64],
    enough: Enough,
    /// Questions.
    left: usize,
    /// Sets that are not enough.
    failing: Vec<Set>,
    /// The set of least bias that is.
    best: Set,
}

impl<E, Enough: FnMut(&Set) -> Result<bool, E>> Search<'_, Enough> {
    fn total(&self, set: &Set) -> f64 {
        set.iter().map(|at| self.bias[*at]).sum()
    }

    /// Whether a set is enough; `None` where that is not known and no question is left.
    fn ask(&mut self, set: &Set) -> Result<Option<bool>, E> {
        if self.best.is_subset(set) {
            return Ok(Some(true));
        }
        if self.failing.iter().any(|failing| set.is_subset(failing)) {
            return Ok(Some(false));
        }
        self.try_set(set)
    }

    /// The same, if a larger set is known not to be enough, too.
    fn try_set(&mut self, set: &Set) -> Result<Option<bool>, E> {
        if self.failing.contains(set) {
            return Ok(Some(false));
        }
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let found = (self.enough)(set)?;
        if !found {
            self.failing.push(set.clone());
        } else if self.total(set) <= self.total(&self.best) {
            self.best = set.clone();
        }
        Ok(Some(found))
    }

    /// Leaves out of the best set one after the other, the least close first, until none can go.
    fn drop_what_is_not_missed(&mut self) -> Result<(), E> {
        loop {
            let before = self.best.len();
            let mut by_bias: Vec<usize> = self.best.iter().copied().collect();
            by_bias.sort_by(|left, right| self.bias[*right].total_cmp(&self.bias[*left]));
            for one in by_bias {
                let mut fewer = self.best.clone();
                fewer.remove(&one);
                self.try_set(&fewer)?;
            }
            if self.best.len() == before {
                return Ok(());
            }
        }
    }

    /// With a set that is not enough, finds how many in this order it takes beside.
    fn grow(&mut self, set: &Set, order: &[usize]) -> Result<(), E> {
        let rest: Vec<usize> = (order.iter().copied())
            .filter(|at| !set.contains(at))
            .collect();
        let (mut few, mut many) = (0, rest.len());
        while many - few > 1 {
            let middle = few + (many - few) / 2;
            let mut larger = set.clone();
            larger.extend(&rest[..middle]);
            match self.ask(&larger)? {
                Some(true) => many = middle,
                Some(false) => few = middle,
                None => break,
            }
        }
        Ok(())
    }

    /// Of the sets that have one outside of each that is not enough, that of the least bias; `None` if that has no less than the best, or is not
    /// found.
    fn least(&self) -> Option<Set> {
        let all = 0..self.bias.len();
        let remainder = |failing: &Set| -> Vec<usize> {
            let mut rest: Vec<usize> = all.clone().filter(|at| !failing.contains(at)).collect();
            rest.sort_by(|left, right| self.bias[*left].total_cmp(&self.bias[*right]));
            rest
        };
        let mut remainders: Vec<Vec<usize>> = self.failing.iter().map(remainder).collect();
        remainders.sort_by_key(Vec::len);
        let mut branch = Branch {
            bias: self.bias,
            remainders: &remainders,
            least: self.total(&self.best),
            found: None,
            left: BRANCHES,
        };
        branch.explore(&mut Set::new(), &mut Set::new(), 0.0);
        branch.found.filter(|_| branch.left > 0)
    }
}

/// Branch and bound over the sets that have one of each remainder.
struct Branch<'a> {
    bias: &'a [f64],
    remainders: &'a [Vec<usize>],
    least: f64,
    found: Option<Set>,
    left: usize,
}

impl Branch<'_> {
    fn explore(&mut self, taken: &mut Set, left_out: &mut Set, total: f64) {
        if self.left == 0 || total >= self.least {
            return;
        }
        self.left -= 1;
        let missed = |one: &&Vec<usize>| !one.iter().any(|at| taken.contains(at));
        let Some(remainder) = self.remainders.iter().find(missed) else {
            self.least = total;
            self.found = Some(taken.clone());
            return;
        };
        let mut passed = Vec::new();
        for &at in remainder {
            if left_out.contains(&at) {
                continue;
            }
            taken.insert(at);
            self.explore(taken, left_out, total + self.bias[at]);
            taken.remove(&at);
            // All sets with this one have been seen.
            left_out.insert(at);
            passed.push(at);
        }
        passed.iter().for_each(|at| _ = left_out.remove(at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    /// Bits that look random.
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self, below: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1);
            (self.0 >> 33) % below
        }
    }

    /// Filters that save bytes and time, some together more than apart; and how much is asked for.
    struct Problem {
        bias: Vec<f64>,
        saved: Vec<[u64; 2]>,
        together: Vec<[usize; 2]>,
        wanted: [u64; 2],
    }

    impl Problem {
        fn random(numbers: &mut Numbers, filters: usize) -> Self {
            let mut problem = Self {
                bias: (0..filters)
                    .map(|_| 0.001 * (1 + numbers.next(100)) as f64)
                    .collect(),
                saved: (0..filters)
                    .map(|_| [0, 0].map(|_| 1 + numbers.next(50)))
                    .collect(),
                together: (0..filters / 2)
                    .map(|_| [0, 0].map(|_| numbers.next(filters as u64) as usize))
                    .collect(),
                wanted: [0; 2],
            };
            let all = problem.sum(&(0..filters).collect());
            problem.wanted = all.map(|sum| numbers.next(sum) + 1);
            problem
        }

        fn sum(&self, set: &Set) -> [u64; 2] {
            let pairs =
                (self.together.iter()).filter(|pair| pair.iter().all(|at| set.contains(at)));
            let pairs = 10 * pairs.count() as u64;
            [0, 1].map(|what| pairs + set.iter().map(|at| self.saved[*at][what]).sum::<u64>())
        }

        fn enough(&self, set: &Set) -> bool {
            let sum = self.sum(set);
            sum[0] >= self.wanted[0] && sum[1] >= self.wanted[1]
        }

        fn total(&self, set: &Set) -> f64 {
            set.iter().map(|at| self.bias[*at]).sum()
        }

        fn order(&self) -> Vec<usize> {
            let mut order: Vec<usize> = (0..self.bias.len()).collect();
            let price =
                |at: usize| self.bias[at] / (self.saved[at].iter().sum::<u64>() as f64).max(1e-9);
            order.sort_by(|left, right| price(*left).total_cmp(&price(*right)));
            order
        }

        /// What is found, and how many questions it took.
        fn solve(&self, most: usize) -> (Set, usize) {
            let mut asked = 0;
            let enough = |set: &Set| {
                asked += 1;
                Ok::<_, Infallible>(self.enough(set))
            };
            let Ok(found) = least_bias(&self.bias, &self.order(), most, enough);
            (found, asked)
        }

        fn by_brute_force(&self) -> f64 {
            let filters = self.bias.len();
            let sets = (0..1_usize << filters)
                .map(|bits| -> Set { (0..filters).filter(|at| bits >> at & 1 == 1).collect() });
            let enough = sets.filter(|set| self.enough(set));
            enough.map(|set| self.total(&set)).fold(f64::MAX, f64::min)
        }
    }

    #[test]
    fn nothing_bends_less_on_small_cases() {
        let mut numbers = Numbers(1);
        for _ in 0..500 {
            for filters in 1..=5 {
                let problem = Problem::random(&mut numbers, filters);
                let (found, asked) = problem.solve(32);
                assert!(problem.enough(&found) && asked <= (1 << filters) - 2);
                assert!((problem.total(&found) - problem.by_brute_force()).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn few_questions_come_close_on_larger_ones() {
        let mut numbers = Numbers(2);
        let mut mean = 0.0;
        for _ in 0..200 {
            let problem = Problem::random(&mut numbers, 12);
            let (found, asked) = problem.solve(56);
            assert!(problem.enough(&found) && asked <= 56);
            let ratio = problem.total(&found) / problem.by_brute_force();
            assert!(ratio < 1.7, "{ratio}");
            mean += ratio / 200.0;
        }
        assert!(mean < 1.1, "{mean}");
    }

    #[test]
    fn errors_are_passed_on() {
        let failed = least_bias(&[0.1, 0.2], &[0, 1], 32, |_| Err("no"));
        assert_eq!(failed, Err("no"));
    }
}
