//! What the host itself does for a step.

use std::time::Duration;

/// What the host has spent on submitting batches: filling buffers, recording and submitting. It is the processor time of the thread that
/// does it, in which waiting for the device does not count: some drivers let a submission wait for the one before. Where the system does not
/// tell it (Windows), it is the time that passes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HostTime {
    /// Batches submitted.
    pub batches: u64,
    /// For all of them.
    pub time: Duration,
}

impl HostTime {
    pub(super) fn add(&mut self, time: Duration) {
        self.batches += 1;
        self.time += time;
    }
}

/// Counts what this thread does from now on.
#[derive(Debug)]
pub(super) struct Stopwatch(Duration);

impl Stopwatch {
    pub(super) fn start() -> Self {
        Self(now())
    }

    pub(super) fn elapsed(&self) -> Duration {
        now().saturating_sub(self.0)
    }
}

/// The processor time of this thread.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn now() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// The time that has passed since the first call.
#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn now() -> Duration {
    use std::sync::OnceLock;
    use std::time::Instant;
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    BEGIN.get_or_init(Instant::now).elapsed()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn waiting_does_not_count() {
        let watch = Stopwatch::start();
        std::thread::sleep(Duration::from_millis(200));
        assert!(watch.elapsed() < Duration::from_millis(100));
        let mut sum = 0_u64;
        while watch.elapsed() < Duration::from_millis(5) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
    }
}
