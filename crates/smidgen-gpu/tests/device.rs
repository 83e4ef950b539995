//! Buffers and their account, reading back, foreign devices, lost devices.

use smidgen_gpu::{
    Category, Device, DeviceRequest, GpuError, Launch, Region, Sequence, params, wgpu,
};

params! { struct FillParams { count: u32, value: f32 } }

fn open() -> Device {
    Device::open(&DeviceRequest::default()).unwrap()
}

fn fill(count: u32, value: f32) -> Launch {
    Launch::new(
        "ops/fill.wgsl",
        &[],
        &FillParams { count, value },
        vec![Region::whole(0, u64::from(count) * 4)],
        [count.div_ceil(256), 1, 1],
    )
}

#[test]
fn what_is_written_is_read() {
    let device = open();
    let values: Vec<f32> = (0..1000).map(|value| value as f32 * 0.5).collect();
    let buffer = device.buffer_with("values", &values).unwrap();
    assert_eq!(device.read::<f32>(&buffer, 0, 1000).unwrap(), values);
    assert_eq!(device.read::<f32>(&buffer, 40, 3).unwrap(), values[10..13]);
    assert_eq!(device.read::<u64>(&buffer, 4, 2).unwrap().len(), 2);
    assert!(device.read::<f32>(&buffer, 4000, 0).unwrap().is_empty());
    let bytes = device.buffer_with("bytes", &[1_u8, 2, 3]).unwrap();
    assert_eq!(device.read::<u8>(&bytes, 0, 3).unwrap(), [1, 2, 3]);
    let nothing = device.buffer_with::<f32>("nothing", &[]).unwrap();
    assert!(device.read::<f32>(&nothing, 0, 0).unwrap().is_empty());
    // What was read through is given back.
    assert_eq!(device.ledger().reserved(), 4000 + 4);
}

#[test]
fn reading_beyond_a_buffer_is_refused_and_harms_nothing() {
    let device = open();
    let buffer = device.buffer_with("four", &[1_u32, 2, 3, 4]).unwrap();
    for (offset, count) in [(0, 5), (16, 1), (1 << 40, 1), (2, 1), (0, usize::MAX)] {
        let error = device.read::<u32>(&buffer, offset, count).unwrap_err();
        assert!(error.to_string().contains("16 bytes"), "{error}");
    }
    assert_eq!(device.read::<u32>(&buffer, 12, 1).unwrap(), [4]);
    assert_eq!(device.ledger().reserved(), 16);
}

#[test]
fn a_buffer_that_the_device_does_not_allow_is_not_entered() {
    let device = open();
    let limit = device.facts().max_buffer_bytes;
    for bytes in [limit + 1, u64::MAX] {
        let error = device.storage_buffer("huge", bytes).unwrap_err();
        assert!(
            matches!(&error, GpuError::BufferTooLarge { label, limit: named, .. } if label == "huge" && *named == limit),
            "{error}"
        );
    }
    assert!(device.ledger().entries().is_empty());
    device.storage_buffer("small", 1024).unwrap();
    assert_eq!(device.ledger().reserved(), 1024);
}

#[test]
fn the_budget_and_the_seal_hold_for_every_kind_of_reservation() {
    let device = open();
    device.ledger().limit_to(1000);
    let numbers = device.storage_buffer("numbers", 900).unwrap();
    let error = device.storage_buffer("more", 101).unwrap_err();
    assert!(
        matches!(
            error,
            GpuError::OverBudget {
                reserved: 900,
                limit: 1000,
                bytes: 101,
                ..
            }
        ),
        "{error}"
    );
    // Reading needs room, too, and so do parameters.
    assert!(matches!(
        device.read::<f32>(&numbers, 0, 225),
        Err(GpuError::OverBudget { .. })
    ));
    device.read::<f32>(&numbers, 0, 25).unwrap();
    device
        .ledger()
        .reserve("other", Category::Other, 99)
        .unwrap();
    assert!(matches!(
        Sequence::prepare(&device, &[fill(225, 1.0)], &[&numbers]),
        Err(GpuError::OverBudget { .. })
    ));
    assert!(matches!(
        device
            .ledger()
            .reserve("endless", Category::Other, u64::MAX),
        Err(GpuError::OverBudget { .. })
    ));
    assert_eq!(device.ledger().reserved(), 999);

    device.ledger().seal();
    let error = device.storage_buffer("late", 1).unwrap_err();
    assert!(
        matches!(&error, GpuError::Sealed { label } if label == "late"),
        "{error}"
    );
    assert_eq!(device.ledger().reserved(), 999);
}

#[test]
fn the_ledger_says_what_bytes_are_for() {
    let device = open();
    device.storage_buffer("tensors", 512).unwrap();
    let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
    device
        .buffer("results", Category::Readback, 64, usage, false)
        .unwrap();
    let ledger = device.ledger();
    let entries: Vec<_> = ledger
        .entries()
        .iter()
        .map(|entry| (entry.label.as_str(), entry.category, entry.bytes))
        .collect();
    assert_eq!(
        entries,
        [
            ("tensors", Category::Arena, 512),
            ("results", Category::Readback, 64)
        ]
    );
}

#[test]
fn a_device_of_the_callers_runs_kernels_and_stays_the_callers() {
    // As another program would open it: limits of WebGPU, no features.
    let instance =
        wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapter =
        pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()))
            .unwrap();
    let (own, queue) =
        pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default())).unwrap();
    let device = Device::wrap(own.clone(), queue.clone());
    let facts = device.facts();
    assert_eq!(
        facts.max_binding_bytes,
        own.limits().max_storage_buffer_binding_size
    );
    assert_eq!(facts.subgroup_sizes, None);
    assert!(!facts.timestamps);

    let buffer = own.create_buffer(&wgpu::BufferDescriptor {
        label: Some("the caller's"),
        size: 4096,
        usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
        mapped_at_creation: false,
    });
    let sequence = Sequence::prepare(&device, &[fill(1000, 2.5)], &[&buffer]).unwrap();
    let mut encoder = own.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        sequence.record(&mut pass);
    }
    queue.submit([encoder.finish()]);
    let values = device.read::<f32>(&buffer, 0, 1024).unwrap();
    assert_eq!(values[..1000], [2.5; 1000]);
    assert_eq!(values[1000..], [0.0; 24]);

    drop((sequence, device));
    own.poll(wgpu::PollType::wait_indefinitely()).unwrap();
}

#[test]
fn a_lost_device_is_an_error_of_its_own_at_every_call() {
    let device = open();
    let buffer = device.buffer_with("numbers", &[0.0_f32; 256]).unwrap();
    let sequence = Sequence::prepare(&device, &[fill(256, 1.0)], &[&buffer]).unwrap();
    device.run(|pass| sequence.record(pass)).unwrap();
    device.wgpu().destroy();
    let lost = |result: Result<(), GpuError>| {
        let error = result.unwrap_err();
        assert!(matches!(error, GpuError::Lost(_)), "{error}");
        assert!(
            error.to_string().contains("open the device again"),
            "{error}"
        );
    };
    lost(device.run(|pass| sequence.record(pass)));
    lost(device.wait());
    lost(device.check());
    lost(device.read::<f32>(&buffer, 0, 256).map(drop));
    lost(device.buffer_with("late", &[1.0_f32]).map(drop));
    lost(device.storage_buffer("late", 1024).map(drop));
    lost(Sequence::prepare(&device, &[fill(256, 3.0)], &[&buffer]).map(drop));
}
