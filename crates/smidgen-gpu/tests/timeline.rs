//! Times of single dispatches.

use smidgen_gpu::{
    Device, DeviceRequest, GpuError, Launch, Region, Sequence, Timeline, folded_grid, params,
};
use std::io::Write;
use std::time::{Duration, Instant};

params! { struct FillParams { count: u32, value: f32 } }

const WORDS: u32 = 1 << 20;

/// A device with timestamps, or a message why the test is skipped.
fn device_with_timestamps() -> Option<Device> {
    let device = Device::open(&DeviceRequest::default()).unwrap();
    if device.facts().timestamps {
        return Some(device);
    }
    assert!(matches!(
        Timeline::new(&device, 1),
        Err(GpuError::Missing { .. })
    ));
    // Past the test harness, which would keep it from being seen, and in one piece.
    let message = format!("skipped: {} has no timestamps\n", device.facts().name);
    let _ = std::io::stderr().write_all(message.as_bytes());
    None
}

fn fills(count: usize) -> Vec<Launch> {
    (0..count)
        .map(|at| {
            Launch::new(
                "ops/fill.wgsl",
                &[],
                &FillParams {
                    count: WORDS,
                    value: at as f32,
                },
                vec![Region::whole(0, u64::from(WORDS) * 4)],
                folded_grid(u64::from(WORDS / 256)),
            )
            .labelled(format!("fill {at}"))
        })
        .collect()
}

#[test]
fn every_launch_has_a_time_and_together_they_fit_the_clock() {
    let Some(device) = device_with_timestamps() else {
        return;
    };
    let buffer = device
        .storage_buffer("numbers", u64::from(WORDS) * 4)
        .unwrap();
    let sequence = Sequence::prepare(&device, &fills(8), &[&buffer]).unwrap();
    let timeline = Timeline::new(&device, 8).unwrap();
    // Everything is reserved by now; measuring needs nothing more.
    device.ledger().seal();
    device.run(|pass| sequence.record(pass)).unwrap();
    for _ in 0..3 {
        let start = Instant::now();
        let timings = timeline.measure(&device, &sequence).unwrap();
        let wall = start.elapsed();
        let labels: Vec<_> = timings.iter().map(|timing| timing.label.clone()).collect();
        let expected: Vec<_> = (0..8).map(|at| format!("fill {at}")).collect();
        assert_eq!(labels, expected);
        let sum: Duration = timings.iter().map(|timing| timing.time).sum();
        assert!(sum > Duration::ZERO, "{timings:?}");
        // The clocks of host and device need not agree to the last percent.
        assert!(
            sum <= wall.mul_f64(1.05) + Duration::from_millis(1),
            "{sum:?} of {wall:?}"
        );
    }
}

#[test]
fn a_timeline_that_is_too_short_times_the_first_launches() {
    let Some(device) = device_with_timestamps() else {
        return;
    };
    let buffer = device
        .storage_buffer("numbers", u64::from(WORDS) * 4)
        .unwrap();
    let sequence = Sequence::prepare(&device, &fills(5), &[&buffer]).unwrap();
    for (capacity, expected) in [(3, 3), (0, 0), (100, 5), (usize::MAX, 5)] {
        let timeline = Timeline::new(&device, capacity).unwrap();
        let timings = timeline.measure(&device, &sequence).unwrap();
        assert_eq!(timings.len(), expected, "capacity {capacity}");
    }
    device.check().unwrap();
}
