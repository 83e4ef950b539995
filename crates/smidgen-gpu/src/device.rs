use crate::ledger::{Category, Ledger};
use crate::pipelines::PipelineStore;
use crate::{DeviceFacts, DeviceKind, GpuError, Launch, adapter};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Buffers up to this size share memory blocks of this size.
pub const ALLOCATOR_BLOCK_BYTES: u64 = 4 << 20;

/// How to open a device.
#[derive(Debug, Clone, Default)]
pub struct DeviceRequest {
    /// Index or part of the name of the adapter; by default `SMIDGEN_ADAPTER`, or else the best: discrete over integrated over
    /// software.
    pub adapter: Option<String>,
    /// Compile kernels with the run-time checks of wgpu (bounds, loops, divisions). Slower; for tests and for hunting faults.
    pub checked: bool,
    /// A folder in which compiled kernels are kept for the next time, where the driver can (Vulkan). By default there is none.
    pub cache: Option<PathBuf>,
}

/// A pipeline is compiled once per shader text; the key is what determines the text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PipelineKey {
    shader: &'static str,
    defines: Vec<smidgen_shaders::Define>,
    halves: Vec<usize>,
}

/// A logical device, its ledger and its compiled kernels.
#[derive(Debug)]
pub struct Device {
    device: wgpu::Device,
    queue: wgpu::Queue,
    facts: DeviceFacts,
    checked: bool,
    /// Kernels access storage in 64-bit words: on software devices, which pay for every word.
    wide: bool,
    ledger: Mutex<Ledger>,
    pub(crate) pipelines: Mutex<HashMap<PipelineKey, wgpu::ComputePipeline>>,
    /// How to open another device on the same adapter.
    pub(crate) opened_as: Option<DeviceRequest>,
    store: Option<PipelineStore>,
    fault: Arc<Mutex<Option<GpuError>>>,
}

impl PipelineKey {
    pub(crate) fn of(launch: &Launch) -> Self {
        Self {
            shader: launch.shader,
            defines: launch.defines.clone(),
            halves: launch.halves.clone(),
        }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The data behind these locks stays consistent whatever a panicking holder did.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Device {
    /// Opens the adapter that `request` names.
    ///
    /// # Errors
    /// No adapter, an unknown name, or a driver that gives no device.
    pub fn open(request: &DeviceRequest) -> Result<Self, GpuError> {
        let named = request.adapter.clone().or_else(|| {
            std::env::var("SMIDGEN_ADAPTER")
                .ok()
                .filter(|name| !name.is_empty())
        });
        let adapter = adapter::choose(adapter::instance(), named.as_deref())?;
        let wanted = wgpu::Features::TIMESTAMP_QUERY
            | wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES
            | wgpu::Features::PIPELINE_CACHE
            | wgpu::Features::SUBGROUP
            | wgpu::Features::SHADER_F16
            | wgpu::Features::SHADER_INT64
            | wgpu::Features::MAPPABLE_PRIMARY_BUFFERS;
        let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("smidgen"),
            required_features: adapter.features() & wanted,
            required_limits: adapter.limits(),
            // Small buffers share blocks of the least size there is; larger ones get memory of exactly their own size. Growing
            // blocks would reserve what the ledger does not know of.
            memory_hints: wgpu::MemoryHints::Manual {
                suballocated_device_memory_block_size: ALLOCATOR_BLOCK_BYTES..ALLOCATOR_BLOCK_BYTES,
            },
            ..Default::default()
        }))
        .map_err(|error| GpuError::DeviceRefused {
            adapter: adapter.get_info().name,
            reason: error.to_string(),
        })?;
        let mut this = Self::assemble(device, queue, request.checked);
        this.opened_as = Some(DeviceRequest {
            adapter: named,
            checked: request.checked,
            cache: None,
        });
        let folder = request.cache.as_deref();
        this.store = folder.and_then(|folder| PipelineStore::open(&this.device, folder));
        let (lost, refused) = (Arc::clone(&this.fault), Arc::clone(&this.fault));
        this.device
            .set_device_lost_callback(move |reason, message| {
                // Dropping a device does not come by here, only `destroy` does, and it brings no message.
                let message = match reason {
                    wgpu::DeviceLostReason::Destroyed => "it was destroyed".into(),
                    wgpu::DeviceLostReason::Unknown => message,
                };
                // What was refused before is a consequence of the loss, or else matters less.
                *lock(&lost) = Some(GpuError::Lost(message));
            });
        this.device.on_uncaptured_error(Arc::new(move |error| {
            let fault = match error {
                wgpu::Error::OutOfMemory { .. } => GpuError::OutOfMemory {
                    label: "a driver allocation".into(),
                    bytes: 0,
                },
                other => GpuError::Refused(other.to_string()),
            };
            lock(&refused).get_or_insert(fault);
        }));
        Ok(this)
    }

    /// Wraps a device that the caller owns. Its callbacks for errors and loss stay the caller's.
    #[must_use]
    pub fn wrap(device: wgpu::Device, queue: wgpu::Queue) -> Self {
        Self::assemble(device, queue, false)
    }

    fn assemble(device: wgpu::Device, queue: wgpu::Queue, checked: bool) -> Self {
        let facts = DeviceFacts::of(&device.adapter_info(), &device.limits(), device.features());
        let wide = facts.kind == DeviceKind::Software
            && device.features().contains(wgpu::Features::SHADER_INT64);
        Self {
            device,
            queue,
            facts,
            checked,
            wide,
            ledger: Mutex::default(),
            pipelines: Mutex::default(),
            opened_as: None,
            store: None,
            fault: Arc::default(),
        }
    }

    /// The device of wgpu.
    #[must_use]
    pub fn wgpu(&self) -> &wgpu::Device {
        &self.device
    }

    /// The queue of wgpu.
    #[must_use]
    pub fn queue(&self) -> &wgpu::Queue {
        &self.queue
    }

    /// What the device offers.
    #[must_use]
    pub fn facts(&self) -> &DeviceFacts {
        &self.facts
    }

    /// The account of what is reserved on this device.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    /// Reserves `bytes` in the ledger, then makes the buffer: the only place that does.
    ///
    /// # Errors
    /// Over the budget, after sealing, larger than the device allows, out of memory, or a device that has failed before.
    pub fn buffer(
        &self,
        label: &str,
        category: Category,
        bytes: u64,
        usage: wgpu::BufferUsages,
        mapped: bool,
    ) -> Result<wgpu::Buffer, GpuError> {
        self.check()?;
        if bytes > self.facts.max_buffer_bytes {
            return Err(GpuError::BufferTooLarge {
                label: label.into(),
                bytes,
                limit: self.facts.max_buffer_bytes,
            });
        }
        self.ledger().reserve(label, category, bytes)?;
        let out_of_memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let invalid = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: bytes,
            usage,
            mapped_at_creation: mapped,
        });
        let fault = match (
            pollster::block_on(invalid.pop()),
            pollster::block_on(out_of_memory.pop()),
        ) {
            (_, Some(_)) => GpuError::OutOfMemory {
                label: label.into(),
                bytes,
            },
            (Some(error), None) => GpuError::Refused(error.to_string()),
            (None, None) => return Ok(buffer),
        };
        self.ledger().release(label);
        Err(fault)
    }

    /// A buffer for tensors: storage, copied from and to.
    ///
    /// # Errors
    /// As [`buffer`](Self::buffer).
    pub fn storage_buffer(&self, label: &str, bytes: u64) -> Result<wgpu::Buffer, GpuError> {
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::COPY_SRC
            | wgpu::BufferUsages::COPY_DST;
        self.buffer(label, Category::Arena, bytes, usage, false)
    }

    /// A buffer for tensors in the host's memory, which kernels read and write like any other: what an adapter with
    /// [`host_memory`](DeviceFacts::host_memory) can have.
    ///
    /// # Errors
    /// As [`buffer`](Self::buffer).
    pub fn host_buffer(&self, label: &str, bytes: u64) -> Result<wgpu::Buffer, GpuError> {
        // That it could be mapped for reading is what places it there.
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::MAP_READ
            | wgpu::BufferUsages::COPY_SRC
            | wgpu::BufferUsages::COPY_DST;
        self.buffer(label, Category::Host, bytes, usage, false)
    }

    /// The same device, taken for one of these facts: for tests of what only other devices do.
    #[doc(hidden)]
    #[must_use]
    pub fn taken_for(self, facts: DeviceFacts) -> Self {
        Self { facts, ..self }
    }

    /// A storage buffer with contents, for tests, examples and benches.
    ///
    /// # Errors
    /// As [`buffer`](Self::buffer).
    pub fn buffer_with<T: bytemuck::Pod>(
        &self,
        label: &str,
        contents: &[T],
    ) -> Result<wgpu::Buffer, GpuError> {
        let bytes = size_of_val(contents) as u64;
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::COPY_SRC
            | wgpu::BufferUsages::COPY_DST;
        let buffer = self.buffer(
            label,
            Category::Arena,
            bytes.next_multiple_of(4),
            usage,
            true,
        )?;
        if bytes == 0 {
            buffer.unmap();
            return Ok(buffer);
        }
        match buffer.get_mapped_range_mut(..) {
            Ok(mut view) => view
                .slice(..bytes as usize)
                .copy_from_slice(bytemuck::cast_slice(contents)),
            Err(error) => {
                self.ledger().release(label);
                return Err(GpuError::Refused(error.to_string()));
            }
        }
        buffer.unmap();
        Ok(buffer)
    }

    /// Records one compute pass, submits it and waits until it is done.
    ///
    /// # Errors
    /// A lost device or a refused operation.
    pub fn run(&self, record: impl FnOnce(&mut wgpu::ComputePass<'_>)) -> Result<(), GpuError> {
        let mut encoder = self
            .device
            .create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        record(&mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()));
        let submission = self.queue.submit([encoder.finish()]);
        self.wait_for(&submission)
    }

    /// Waits until all that was submitted is done.
    ///
    /// # Errors
    /// A lost device or a refused operation.
    pub fn wait(&self) -> Result<(), GpuError> {
        self.poll(wgpu::PollType::wait_indefinitely())
    }

    /// Waits until this submission is done, and those before it.
    ///
    /// # Errors
    /// A lost device or a refused operation.
    pub fn wait_for(&self, submission: &wgpu::SubmissionIndex) -> Result<(), GpuError> {
        self.poll(wgpu::PollType::Wait {
            submission_index: Some(submission.clone()),
            timeout: None,
        })
    }

    fn poll(&self, how: wgpu::PollType) -> Result<(), GpuError> {
        let polled = self.device.poll(how);
        self.check()?;
        polled
            .map(|_| ())
            .map_err(|error| GpuError::Lost(error.to_string()))
    }

    /// The first fault that wgpu reported outside a call, if any.
    ///
    /// # Errors
    /// That fault.
    pub fn check(&self) -> Result<(), GpuError> {
        lock(&self.fault).clone().map_or(Ok(()), Err)
    }

    /// Reads `count` elements from byte `offset` (a multiple of 4) on, through a buffer of its own: for tests, checkpoints and
    /// examples, not for a step.
    ///
    /// # Errors
    /// Beyond the end of the buffer, over the budget, a lost device, a refused operation.
    pub fn read<T: bytemuck::Pod>(
        &self,
        buffer: &wgpu::Buffer,
        offset: u64,
        count: usize,
    ) -> Result<Vec<T>, GpuError> {
        let wanted = (count as u64).saturating_mul(size_of::<T>() as u64);
        // Found here, because wgpu would report it as a fault of the device.
        let room = buffer.size().saturating_sub(offset);
        let bytes = wanted.min(room).next_multiple_of(4);
        if wanted > room || bytes > room || !offset.is_multiple_of(4) {
            return Err(GpuError::Refused(format!(
                "{wanted} bytes from byte {offset} on cannot be read from a buffer of {} bytes",
                buffer.size()
            )));
        }
        if wanted == 0 {
            return Ok(Vec::new());
        }
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let landing = self.buffer("read", Category::Readback, bytes, usage, false)?;
        let mut encoder = self
            .device
            .create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(buffer, offset, &landing, 0, bytes);
        let submission = self.queue.submit([encoder.finish()]);
        let contents = self.landed(&landing, count, &submission);
        self.ledger().release("read");
        contents
    }

    /// Waits for the submission that copied to a buffer, and reads `count` elements of it.
    pub(crate) fn landed<T: bytemuck::Pod>(
        &self,
        landing: &wgpu::Buffer,
        count: usize,
        submission: &wgpu::SubmissionIndex,
    ) -> Result<Vec<T>, GpuError> {
        landing.map_async(wgpu::MapMode::Read, .., |_| {});
        self.wait_for(submission)?;
        let contents = {
            let view = landing
                .get_mapped_range(..)
                .map_err(|error| GpuError::Refused(error.to_string()))?;
            // The copy is not aligned for T, so elements are read one by one.
            view[..count * size_of::<T>()]
                .chunks_exact(size_of::<T>())
                .map(bytemuck::pod_read_unaligned)
                .collect()
        };
        landing.unmap();
        Ok(contents)
    }

    /// Writes the kernels that were compiled to the folder of the request, for the next time.
    ///
    /// # Errors
    /// The file cannot be written; everything works without it.
    pub fn save_pipelines(&self) -> std::io::Result<()> {
        self.store.as_ref().map_or(Ok(()), PipelineStore::save)
    }

    /// The compiled kernels of launches, in their order. Those that are new are compiled on all cores at once, because drivers take
    /// their time.
    pub(crate) fn pipelines(
        &self,
        launches: &[Launch],
    ) -> Result<Vec<wgpu::ComputePipeline>, GpuError> {
        let mut met = HashSet::new();
        let distinct: Vec<&Launch> = launches
            .iter()
            .filter(|launch| met.insert((launch.shader, &launch.defines, &launch.halves)))
            .collect();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..cores.min(distinct.len()) {
                scope.spawn(|| {
                    while let Some(launch) = distinct.get(next.fetch_add(1, Ordering::Relaxed)) {
                        // A failure shows again below, where it can be returned.
                        let _ = self.pipeline(launch);
                    }
                });
            }
        });
        launches
            .iter()
            .map(|launch| self.pipeline(launch))
            .collect()
    }

    /// The compiled kernel of a launch, from the cache or new.
    pub(crate) fn pipeline(&self, launch: &Launch) -> Result<wgpu::ComputePipeline, GpuError> {
        let key = PipelineKey::of(launch);
        if let Some(pipeline) = lock(&self.pipelines).get(&key) {
            return Ok(pipeline.clone());
        }
        let mut defines = launch.defines.clone();
        if self.facts.kind == DeviceKind::Software {
            defines.push(("SOFTWARE".into(), String::new()));
        }
        let mut text = smidgen_shaders::expand(launch.shader, &defines)?.text;
        if !launch.halves.is_empty() {
            let halved = smidgen_shaders::halved(&text, &launch.half_bindings());
            text = halved.ok_or_else(|| GpuError::Launch {
                label: launch.label.to_string(),
                what: format!("regions {:?} cannot hold f16", launch.halves),
            })?;
        }
        if self.wide {
            text = smidgen_shaders::widened(&text).unwrap_or(text);
        }
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(launch.shader),
            source: wgpu::ShaderSource::Wgsl(text.into()),
        };
        let invalid = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let module = if self.checked {
            self.device.create_shader_module(descriptor)
        } else {
            // SAFETY: the kernels are ours; launches are checked against the shapes they were made for, no loop is unbounded and
            // no divisor is zero. The tests run every kernel checked and unchecked, in memory with guard words.
            #[allow(unsafe_code)]
            unsafe {
                self.device.create_shader_module_trusted(
                    descriptor,
                    wgpu::ShaderRuntimeChecks::unchecked(),
                )
            }
        };
        let layout = self.bind_group_layout(launch);
        let pipeline_layout = self
            .device
            .create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(launch.shader),
                bind_group_layouts: &[Some(&layout)],
                immediate_size: 0,
            });
        let pipeline = self
            .device
            .create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(launch.shader),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &[],
                    zero_initialize_workgroup_memory: self.checked,
                },
                cache: self.store.as_ref().map(|store| &store.cache),
            });
        if let Some(error) = pollster::block_on(invalid.pop()) {
            return Err(GpuError::Launch {
                label: launch.label.to_string(),
                what: error.to_string(),
            });
        }
        lock(&self.pipelines).insert(key, pipeline.clone());
        Ok(pipeline)
    }

    /// The uniform with a dynamic offset (if the launch has one), then the storage bindings.
    pub(crate) fn bind_group_layout(&self, launch: &Launch) -> wgpu::BindGroupLayout {
        let entry = |binding, kind, dynamic| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: kind,
                has_dynamic_offset: dynamic,
                min_binding_size: None,
            },
            count: None,
        };
        let uniform =
            (!launch.params.is_empty()).then(|| entry(0, wgpu::BufferBindingType::Uniform, true));
        let first = uniform.iter().len() as u32;
        let storage = (0..launch.regions.len() as u32).map(|at| {
            entry(
                first + at,
                wgpu::BufferBindingType::Storage { read_only: false },
                false,
            )
        });
        let entries: Vec<_> = uniform.into_iter().chain(storage).collect();
        self.device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: Some(launch.shader),
                entries: &entries,
            })
    }
}
