//! Work that does not depend on each other, by as many threads as there are.

use std::sync::atomic::{AtomicUsize, Ordering};

/// `work(0)`, `work(1)` and so on, in that order. Each thread takes the next one that nobody has begun.
pub(super) fn each<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let own = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return done;
            }
            done.push((at, work(at)));
        }
    };
    let threads =
        std::thread::available_parallelism().map_or(1, |threads| threads.get().min(count));
    let mut done: Vec<(usize, T)> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(own)).collect();
        let mut done = own();
        for other in others {
            let panicked = |panic| std::panic::resume_unwind(panic);
            done.extend(other.join().unwrap_or_else(panicked));
        }
        done
    });
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}
