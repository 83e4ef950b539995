use crate::GpuError;
use std::sync::LazyLock;

/// What kind of device an adapter is, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeviceKind {
    /// A GPU with memory of its own.
    Discrete,
    /// A GPU that shares the host's memory.
    Integrated,
    /// A GPU seen through a hypervisor, or of unknown kind.
    Virtual,
    /// A driver that computes on the CPU.
    Software,
}

impl From<wgpu::DeviceType> for DeviceKind {
    fn from(kind: wgpu::DeviceType) -> Self {
        match kind {
            wgpu::DeviceType::DiscreteGpu => Self::Discrete,
            wgpu::DeviceType::IntegratedGpu => Self::Integrated,
            wgpu::DeviceType::VirtualGpu | wgpu::DeviceType::Other => Self::Virtual,
            wgpu::DeviceType::Cpu => Self::Software,
        }
    }
}

impl std::fmt::Display for DeviceKind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Discrete => "discrete",
            Self::Integrated => "integrated",
            Self::Virtual => "virtual",
            Self::Software => "software",
        })
    }
}

/// What planning and the choice of kernels need to know of a device; plain data.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceFacts {
    /// Name of the adapter.
    pub name: String,
    /// Name and version of the driver.
    pub driver: String,
    /// `vulkan`, `metal`, `dx12` ...
    pub backend: String,
    /// Discrete, integrated, virtual or software.
    pub kind: DeviceKind,
    /// Largest buffer, in bytes.
    pub max_buffer_bytes: u64,
    /// Largest storage binding, in bytes.
    pub max_binding_bytes: u64,
    /// Alignment of a storage binding's offset, in bytes.
    pub storage_alignment: u64,
    /// Alignment of a uniform binding's offset, in bytes.
    pub uniform_alignment: u64,
    /// Workgroup memory, in bytes.
    pub workgroup_memory_bytes: u32,
    /// Invocations of a workgroup.
    pub max_invocations: u32,
    /// Smallest and largest subgroup; `None` where subgroup operations are missing.
    pub subgroup_sizes: Option<(u32, u32)>,
    /// Whether timestamps can be written inside a compute pass.
    pub timestamps: bool,
    /// Whether shaders may compute in f16.
    pub half_precision: bool,
    /// Whether the device has memory of its own and its kernels can also read and write buffers in the host's.
    pub host_memory: bool,
}

impl DeviceFacts {
    pub(crate) fn of(
        info: &wgpu::AdapterInfo,
        limits: &wgpu::Limits,
        features: wgpu::Features,
    ) -> Self {
        Self {
            name: info.name.clone(),
            driver: format!("{} {}", info.driver, info.driver_info)
                .trim()
                .to_owned(),
            backend: info.backend.to_str().to_owned(),
            kind: info.device_type.into(),
            max_buffer_bytes: limits.max_buffer_size,
            max_binding_bytes: limits.max_storage_buffer_binding_size,
            storage_alignment: u64::from(limits.min_storage_buffer_offset_alignment),
            uniform_alignment: u64::from(limits.min_uniform_buffer_offset_alignment),
            workgroup_memory_bytes: limits.max_compute_workgroup_storage_size,
            max_invocations: limits.max_compute_invocations_per_workgroup,
            subgroup_sizes: features
                .contains(wgpu::Features::SUBGROUP)
                .then_some((info.subgroup_min_size, info.subgroup_max_size)),
            timestamps: features.contains(
                wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES,
            ),
            half_precision: features.contains(wgpu::Features::SHADER_F16),
            host_memory: info.device_type == wgpu::DeviceType::DiscreteGpu
                && features.contains(wgpu::Features::MAPPABLE_PRIMARY_BUFFERS),
        }
    }
}

/// An adapter as listed by [`adapters`].
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterSummary {
    /// The index by which it can be chosen.
    pub index: usize,
    /// What a device on it would offer.
    pub facts: DeviceFacts,
}

/// Every Vulkan, Metal and DX12 adapter, best first: discrete, integrated, virtual, software.
#[must_use]
pub fn adapters() -> Vec<AdapterSummary> {
    sorted(instance())
        .iter()
        .enumerate()
        .map(|(index, adapter)| AdapterSummary {
            index,
            facts: DeviceFacts::of(&adapter.get_info(), &adapter.limits(), adapter.features()),
        })
        .collect()
}

/// The one instance of the process: a driver is known that crashes where threads make and drop several at once
/// (<https://github.com/gfx-rs/wgpu/issues/5930>), and to load all drivers once is quicker.
pub(crate) fn instance() -> &'static wgpu::Instance {
    static INSTANCE: LazyLock<wgpu::Instance> = LazyLock::new(|| {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
        descriptor.backends &=
            wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
        // No dispatch is indirect, and validation layers are for our tests (WGPU_VALIDATION=1 brings them back).
        descriptor.flags = wgpu::InstanceFlags::empty().with_env();
        wgpu::Instance::new(descriptor)
    });
    &INSTANCE
}

fn sorted(instance: &wgpu::Instance) -> Vec<wgpu::Adapter> {
    let mut adapters: Vec<_> =
        pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()))
            .into_iter()
            .filter(|adapter| {
                adapter
                    .get_downlevel_capabilities()
                    .flags
                    .contains(wgpu::DownlevelFlags::COMPUTE_SHADERS)
            })
            .collect();
    adapters.sort_by_key(|adapter| DeviceKind::from(adapter.get_info().device_type));
    adapters
}

/// The adapter chosen by index or by part of its name (in any case); the best one if nothing is named.
pub(crate) fn choose(
    instance: &wgpu::Instance,
    wanted: Option<&str>,
) -> Result<wgpu::Adapter, GpuError> {
    let mut adapters = sorted(instance);
    if adapters.is_empty() {
        return Err(GpuError::NoAdapter);
    }
    let Some(wanted) = wanted else {
        return Ok(adapters.swap_remove(0));
    };
    let found = match wanted.parse::<usize>() {
        Ok(index) => (index < adapters.len()).then_some(index),
        Err(_) => adapters.iter().position(|adapter| {
            adapter
                .get_info()
                .name
                .to_lowercase()
                .contains(&wanted.to_lowercase())
        }),
    };
    match found {
        Some(index) => Ok(adapters.swap_remove(index)),
        None => {
            let available: Vec<_> = adapters
                .iter()
                .enumerate()
                .map(|(index, adapter)| format!("{index}: {}", adapter.get_info().name))
                .collect();
            Err(GpuError::UnknownAdapter {
                wanted: wanted.into(),
                available: available.join(", "),
            })
        }
    }
}
