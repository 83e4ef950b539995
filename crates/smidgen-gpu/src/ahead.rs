//! Compiling ahead on all cores, where a driver compiles a kernel only when it is first dispatched, on the one thread of its queue.
//!
//! Such a driver (llvmpipe) has no queue but that one, so other threads have to have devices of their own. What they compile comes to this
//! device through the cache that the driver keeps on disk: a dispatch of no workgroup is enough. Where that cache is switched off, they
//! notice and stop, and the others are compiled when they first run, as ever.

use crate::device::{PipelineKey, lock};
use crate::{ALLOCATOR_BLOCK_BYTES, Category, Device, DeviceKind, DeviceRequest, GpuError, Launch};
use std::collections::HashSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const LABEL: &str = "compiling";
/// Room for each binding, which no invocation will touch.
const BINDING_BYTES: u64 = 4096;
/// More than a launch binds.
const BINDINGS: u64 = 16;
/// What took less came from the driver's cache.
const COMPILED: Duration = Duration::from_millis(40);

/// Kernels that nobody has begun to compile.
struct Queue<'l> {
    /// The largest last.
    launches: Mutex<Vec<&'l Launch>>,
    /// Nothing is begun later.
    until: Option<Instant>,
}

impl<'l> Queue<'l> {
    fn take(&self) -> Option<&'l Launch> {
        let late = self.until.is_some_and(|until| Instant::now() >= until);
        (!late).then(|| lock(&self.launches).pop()).flatten()
    }
}

impl Device {
    /// Compiles the kernels of `launches` before they run, on all cores, those that are begun before `until`. Other threads take memory of
    /// the device for as long as this takes; where the ledger has no room for it, or the driver compiles whenever a pipeline is made, nothing
    /// is done.
    ///
    /// # Errors
    /// A kernel that does not compile, a lost device.
    pub fn compile_ahead(
        &self,
        launches: &[Launch],
        until: Option<Instant>,
    ) -> Result<(), GpuError> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let software = self.facts().kind == DeviceKind::Software;
        let Some(request) = self.opened_as.as_ref().filter(|_| software) else {
            return Ok(());
        };
        let launches = self.not_yet_compiled(launches)?;
        let room_for = |devices: &usize| {
            let bytes = *devices as u64 * ALLOCATOR_BLOCK_BYTES;
            (self.ledger())
                .reserve(LABEL, Category::Other, bytes)
                .is_ok()
        };
        // This device, and one for each other thread.
        let Some(devices) = (2..=cores.min(launches.len())).rev().find(room_for) else {
            return Ok(());
        };
        let launches = Mutex::new(launches);
        let queue = Queue { launches, until };
        let result = std::thread::scope(|scope| {
            for _ in 1..devices {
                scope.spawn(|| help(request, &queue));
            }
            let rehearsal = Rehearsal::new(self);
            let mut result = Ok(());
            while let (Ok(()), Some(launch)) = (&result, queue.take()) {
                result = rehearsal.run(launch).map(|_| ());
            }
            // After an error nobody begins another.
            lock(&queue.launches).clear();
            result
        });
        self.ledger().release(LABEL);
        // The memory goes back once the device is polled.
        result.and(self.wait())
    }

    /// One launch of each kernel that has no pipeline on this device, the largest last, so that no core is left with one at the end.
    fn not_yet_compiled<'l>(&self, launches: &'l [Launch]) -> Result<Vec<&'l Launch>, GpuError> {
        let mut met = HashSet::new();
        let mut new = Vec::new();
        for launch in launches {
            let key = PipelineKey::of(launch);
            if !lock(&self.pipelines).contains_key(&key) && met.insert(key) {
                let text = smidgen_shaders::expand(launch.shader, &launch.defines)?.text;
                new.push((text.len(), launch));
            }
        }
        new.sort_by_key(|(characters, _)| *characters);
        Ok(new.into_iter().map(|(_, launch)| launch).collect())
    }
}

/// Compiles on a device of its own until nothing is left, or the driver is found to keep nothing.
fn help(request: &DeviceRequest, queue: &Queue<'_>) {
    // What fails here is compiled, and told of, when it runs.
    let _ = (|| -> Result<(), GpuError> {
        let mut kept = false;
        let mut device = Device::open(request)?;
        let mut rehearsal = Rehearsal::new(&device);
        while let Some(launch) = queue.take() {
            let first = rehearsal.run(launch)?;
            if kept || first < COMPILED {
                continue;
            }
            // All that is written by then is on disk when the device is gone.
            drop(rehearsal);
            device = Device::open(request)?;
            rehearsal = Rehearsal::new(&device);
            kept = rehearsal.run(launch)? < first / 2;
            if !kept {
                break;
            }
        }
        Ok(())
    })();
}

/// Dispatches of no workgroup. Its buffers are what `compile_ahead` enters in the ledger.
struct Rehearsal<'d> {
    device: &'d Device,
    uniform: wgpu::Buffer,
    storage: wgpu::Buffer,
}

impl<'d> Rehearsal<'d> {
    fn new(device: &'d Device) -> Self {
        let buffer = |usage, size| {
            device.wgpu().create_buffer(&wgpu::BufferDescriptor {
                label: Some(LABEL),
                size,
                usage,
                mapped_at_creation: false,
            })
        };
        Self {
            device,
            uniform: buffer(wgpu::BufferUsages::UNIFORM, BINDING_BYTES),
            storage: buffer(wgpu::BufferUsages::STORAGE, BINDINGS * BINDING_BYTES),
        }
    }

    /// Compiles the kernel of a launch, and tells how long it took.
    fn run(&self, launch: &Launch) -> Result<Duration, GpuError> {
        let pipeline = self.device.pipeline(launch)?;
        let binding = |buffer, at| wgpu::BufferBinding {
            buffer,
            offset: at * BINDING_BYTES,
            size: wgpu::BufferSize::new(BINDING_BYTES),
        };
        let uniform = (!launch.params.is_empty()).then(|| binding(&self.uniform, 0));
        let storage = (0..launch.regions.len() as u64).map(|at| binding(&self.storage, at));
        let offset = uniform.as_ref().map(|_| 0);
        let entries: Vec<_> = uniform
            .into_iter()
            .chain(storage)
            .enumerate()
            .map(|(at, binding)| wgpu::BindGroupEntry {
                binding: at as u32,
                resource: wgpu::BindingResource::Buffer(binding),
            })
            .collect();
        let device = self.device.wgpu();
        let bind_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(LABEL),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        let start = Instant::now();
        self.device.run(|pass| {
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &bind_group, offset.as_slice());
            pass.dispatch_workgroups(0, 0, 0);
        })?;
        Ok(start.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Region, Sequence, params};

    params! { struct FillParams { count: u32, value: f32 } }
    params! { struct CopyParams { count: u32, input_first: u32, output_first: u32 } }

    fn launches() -> Vec<Launch> {
        let fill = FillParams {
            count: 256,
            value: 1.5,
        };
        let copied = vec![Region::whole(0, 1024), Region::whole(1, 1024)];
        let copy = CopyParams {
            count: 64,
            input_first: 0,
            output_first: 0,
        };
        vec![
            Launch::new(
                "ops/fill.wgsl",
                &[],
                &fill,
                vec![Region::whole(0, 1024)],
                [1, 1, 1],
            ),
            Launch::new("ops/copy.wgsl", &[], &copy, copied, [1, 1, 1]),
        ]
    }

    #[test]
    fn what_was_compiled_ahead_runs_and_its_memory_is_given_back() {
        let device = Device::open(&DeviceRequest::default()).unwrap();
        let launches = launches();
        device.compile_ahead(&launches, None).unwrap();
        device.compile_ahead(&launches, None).unwrap();
        assert_eq!(device.ledger().reserved(), 0);
        let buffers = ["from", "to"].map(|label| device.storage_buffer(label, 1024).unwrap());
        let sequence = Sequence::prepare(&device, &launches, &buffers.each_ref()).unwrap();
        device.run(|pass| sequence.record(pass)).unwrap();
        let copied = device.read::<f32>(&buffers[1], 0, 256).unwrap();
        assert_eq!(copied, [1.5; 256]);
    }

    #[test]
    fn a_full_or_sealed_ledger_is_left_as_it_is() {
        let device = Device::open(&DeviceRequest::default()).unwrap();
        device.ledger().limit_to(ALLOCATOR_BLOCK_BYTES);
        device.compile_ahead(&launches(), None).unwrap();
        assert_eq!(device.ledger().reserved(), 0);
        let device = Device::open(&DeviceRequest::default()).unwrap();
        device.ledger().seal();
        device.compile_ahead(&launches(), None).unwrap();
    }

    #[test]
    fn a_device_that_compiles_takes_the_memory_that_is_entered_for_it() {
        let device = Device::open(&DeviceRequest::default()).unwrap();
        let rehearsal = Rehearsal::new(&device);
        for launch in &launches() {
            rehearsal.run(launch).unwrap();
        }
        if let Some(report) = device.wgpu().generate_allocator_report() {
            assert!(
                report.total_reserved_bytes <= ALLOCATOR_BLOCK_BYTES,
                "{report:?}"
            );
        }
    }
}
