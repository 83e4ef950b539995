use crate::{Category, Device, GpuError, Sequence};
use std::time::Duration;

/// Time of one dispatch on the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// Label of the launch.
    pub label: String,
    /// Time between the timestamps before and after it.
    pub time: Duration,
}

/// Timestamps around every dispatch of a sequence.
#[derive(Debug)]
pub struct Timeline {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    landing: wgpu::Buffer,
    capacity: usize,
}

impl Timeline {
    /// Room for sequences of up to `capacity` launches, reserved in the ledger.
    ///
    /// # Errors
    /// The device has no timestamps, or there is no room.
    pub fn new(device: &Device, capacity: usize) -> Result<Self, GpuError> {
        if !device.facts().timestamps {
            return Err(GpuError::Missing {
                feature: "timestamps inside passes",
                purpose: "a timeline",
            });
        }
        let count = capacity
            .saturating_add(1)
            .min(wgpu::QUERY_SET_MAX_QUERIES as usize) as u32;
        let queries = device.wgpu().create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("timeline"),
            ty: wgpu::QueryType::Timestamp,
            count,
        });
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let bytes = u64::from(count) * 8;
        let resolved = device.buffer("timeline", Category::Query, bytes, usage, false)?;
        // Of its own, so that a sealed device can be measured.
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let landing = device
            .buffer("timeline", Category::Query, bytes, usage, false)
            .inspect_err(|_| device.ledger().release("timeline"))?;
        Ok(Self {
            queries,
            resolved,
            landing,
            capacity: count as usize - 1,
        })
    }

    /// Runs `sequence` once and returns the time of each launch (of the first ones, where it is longer than the capacity).
    ///
    /// # Errors
    /// A lost device or a refused operation.
    pub fn measure(&self, device: &Device, sequence: &Sequence) -> Result<Vec<Timing>, GpuError> {
        let count = sequence.len().min(self.capacity);
        let mut encoder = device
            .wgpu()
            .create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.write_timestamp(&self.queries, 0);
            for at in 0..count {
                sequence.record_range(&mut pass, at..at + 1);
                pass.write_timestamp(&self.queries, at as u32 + 1);
            }
            sequence.record_range(&mut pass, count..sequence.len());
        }
        encoder.resolve_query_set(&self.queries, 0..count as u32 + 1, &self.resolved, 0);
        let bytes = (count as u64 + 1) * 8;
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.landing, 0, bytes);
        let submission = device.queue().submit([encoder.finish()]);
        let ticks: Vec<u64> = device.landed(&self.landing, count + 1, &submission)?;
        let nanoseconds_per_tick = f64::from(device.queue().get_timestamp_period());
        Ok((0..count)
            .map(|at| Timing {
                label: sequence.label(at).unwrap_or_default().to_owned(),
                time: Duration::from_nanos(
                    (ticks[at + 1].saturating_sub(ticks[at]) as f64 * nanoseconds_per_tick) as u64,
                ),
            })
            .collect())
    }
}
