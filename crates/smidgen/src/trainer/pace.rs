use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Images a second over the last steps.
#[derive(Debug, Default)]
pub(super) struct Pace {
    ticks: VecDeque<(Instant, u64)>,
}

impl Pace {
    /// Counts from here. Results that were waited for arrive in a burst, so times between results alone would mislead.
    pub(super) fn start(&mut self) {
        if self.ticks.is_empty() {
            self.ticks.push_back((Instant::now(), 0));
        }
    }

    pub(super) fn tick(&mut self, images: u64) -> f64 {
        const WINDOW: usize = 20;
        self.ticks.push_back((Instant::now(), images));
        if self.ticks.len() > WINDOW {
            self.ticks.pop_front();
        }
        let (Some(first), Some(last)) = (self.ticks.front(), self.ticks.back()) else {
            return 0.0;
        };
        let time: Duration = last.0 - first.0;
        let images: u64 = self.ticks.iter().skip(1).map(|tick| tick.1).sum();
        if time.is_zero() {
            0.0
        } else {
            images as f64 / time.as_secs_f64()
        }
    }
}
