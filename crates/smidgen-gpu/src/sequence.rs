use crate::{Category, Device, GpuError, Launch};
use std::collections::HashMap;
use std::ops::Range;

/// Launches made ready to record: pipelines, bind groups and one uniform buffer, all built once.
#[derive(Debug)]
pub struct Sequence {
    steps: Vec<Step>,
    // Held because the ledger counts it for as long as the sequence lives.
    _uniforms: Option<wgpu::Buffer>,
}

#[derive(Debug)]
struct Step {
    label: String,
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    uniform_offset: Option<u32>,
    workgroups: [u32; 3],
}

/// Where each launch's parameters stand in the uniform buffer; equal blocks are stored once.
struct UniformLayout<'l> {
    /// Each with where it begins.
    blocks: Vec<(u64, &'l [u8])>,
    block_of: Vec<Option<usize>>,
    bytes: u64,
}

impl<'l> UniformLayout<'l> {
    fn of(launches: &'l [Launch], alignment: u64) -> Self {
        let mut known: HashMap<&[u8], usize> = HashMap::new();
        let (mut blocks, mut bytes) = (Vec::new(), 0_u64);
        let block_of = launches
            .iter()
            .map(|launch| {
                (!launch.params.is_empty()).then(|| {
                    *known.entry(&launch.params).or_insert_with(|| {
                        blocks.push((bytes, launch.params.as_slice()));
                        // A uniform's bound size is rounded up to 16 in WGSL's uniform layout.
                        let size = (launch.params.len() as u64).next_multiple_of(16);
                        bytes += size.next_multiple_of(alignment.max(16));
                        blocks.len() - 1
                    })
                })
            })
            .collect();
        Self {
            blocks,
            block_of,
            bytes,
        }
    }
}

impl Sequence {
    /// Bytes of the uniform buffer that [`prepare`](Self::prepare) will reserve for these launches.
    #[must_use]
    pub fn uniform_bytes(launches: &[Launch], uniform_alignment: u64) -> u64 {
        UniformLayout::of(launches, uniform_alignment).bytes
    }

    /// Compiles the kernels of `launches` and binds their regions to `buffers`.
    ///
    /// # Errors
    /// A launch that does not fit its shader, a region outside its buffer, misaligned or larger than one binding, regions of one
    /// launch that overlap, or no room for the uniforms.
    pub fn prepare(
        device: &Device,
        launches: &[Launch],
        buffers: &[&wgpu::Buffer],
    ) -> Result<Self, GpuError> {
        let layout = UniformLayout::of(launches, device.facts().uniform_alignment);
        for launch in launches {
            check_launch(device, launch, buffers)?;
        }
        let pipelines = device.pipelines(launches)?;
        // After all that may fail, so that a failure leaves nothing in the ledger.
        let uniforms = if layout.blocks.is_empty() {
            None
        } else {
            Some(write_uniforms(device, &layout)?)
        };
        let mut steps = Vec::with_capacity(launches.len());
        for ((launch, block), pipeline) in launches.iter().zip(&layout.block_of).zip(pipelines) {
            let storage = launch.regions.iter().map(|region| wgpu::BufferBinding {
                buffer: buffers[region.buffer],
                offset: region.offset,
                size: wgpu::BufferSize::new(region.size),
            });
            let uniform = block
                .and(uniforms.as_ref())
                .map(|buffer| wgpu::BufferBinding {
                    buffer,
                    offset: 0,
                    size: wgpu::BufferSize::new((launch.params.len() as u64).next_multiple_of(16)),
                });
            let entries: Vec<_> = uniform
                .into_iter()
                .chain(storage)
                .enumerate()
                .map(|(at, binding)| wgpu::BindGroupEntry {
                    binding: at as u32,
                    resource: wgpu::BindingResource::Buffer(binding),
                })
                .collect();
            let bind_group = device.wgpu().create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(&launch.label),
                layout: &pipeline.get_bind_group_layout(0),
                entries: &entries,
            });
            steps.push(Step {
                label: launch.label.to_string(),
                pipeline,
                bind_group,
                uniform_offset: block.map(|block| layout.blocks[block].0 as u32),
                workgroups: launch.workgroups,
            });
        }
        device.check()?;
        Ok(Self {
            steps,
            _uniforms: uniforms,
        })
    }

    /// Number of launches.
    #[must_use]
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there is nothing to launch.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The label of a launch.
    #[must_use]
    pub fn label(&self, index: usize) -> Option<&str> {
        self.steps.get(index).map(|step| step.label.as_str())
    }

    /// Records all launches.
    pub fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        self.record_range(pass, 0..self.steps.len());
    }

    /// Records some of the launches.
    ///
    /// # Panics
    /// If the range reaches beyond [`len`](Self::len).
    pub fn record_range(&self, pass: &mut wgpu::ComputePass<'_>, range: Range<usize>) {
        for step in &self.steps[range] {
            pass.set_pipeline(&step.pipeline);
            pass.set_bind_group(0, &step.bind_group, step.uniform_offset.as_slice());
            let [x, y, z] = step.workgroups;
            pass.dispatch_workgroups(x, y, z);
        }
    }
}

fn write_uniforms(device: &Device, layout: &UniformLayout<'_>) -> Result<wgpu::Buffer, GpuError> {
    let usage = wgpu::BufferUsages::UNIFORM;
    let buffer = device.buffer(
        "kernel parameters",
        Category::Uniform,
        layout.bytes,
        usage,
        true,
    )?;
    {
        let mut view = buffer
            .get_mapped_range_mut(..)
            .map_err(|error| GpuError::Refused(error.to_string()))?;
        for &(start, block) in &layout.blocks {
            let start = start as usize;
            view.slice(start..start + block.len())
                .copy_from_slice(block);
        }
    }
    buffer.unmap();
    Ok(buffer)
}

fn check_launch(
    device: &Device,
    launch: &Launch,
    buffers: &[&wgpu::Buffer],
) -> Result<(), GpuError> {
    launch.variant()?;
    let refuse = |what: String| GpuError::Launch {
        label: launch.label.to_string(),
        what,
    };
    let facts = device.facts();
    for (at, region) in launch.regions.iter().enumerate() {
        let buffer = buffers.get(region.buffer).ok_or_else(|| {
            refuse(format!(
                "binding {at} names buffer {}, there are {}",
                region.buffer,
                buffers.len()
            ))
        })?;
        if region.size == 0 || region.size % 4 != 0 || region.offset % facts.storage_alignment != 0
        {
            return Err(refuse(format!(
                "binding {at} has offset {} and size {}; offsets must be multiples of {}, sizes multiples of 4 above 0",
                region.offset, region.size, facts.storage_alignment
            )));
        }
        let end = region.offset.saturating_add(region.size);
        if end > buffer.size() {
            return Err(refuse(format!(
                "binding {at} ends at byte {end}, its buffer has {}",
                buffer.size()
            )));
        }
        if region.size > facts.max_binding_bytes {
            return Err(GpuError::BindingTooLarge {
                label: launch.label.to_string(),
                bytes: region.size,
                limit: facts.max_binding_bytes,
            });
        }
        for (other_at, other) in launch.regions[..at].iter().enumerate() {
            if other.buffer == region.buffer
                && other.offset < end
                && region.offset < other.offset + other.size
            {
                return Err(refuse(format!("bindings {other_at} and {at} overlap")));
            }
        }
    }
    Ok(())
}
