//! Rings that carry data to the device and back without allocating.

use smidgen_gpu::{Category, Device, DeviceRequest, GpuError, ReadbackRing, StagingRing, wgpu};

fn open() -> Device {
    Device::open(&DeviceRequest::default()).unwrap()
}

fn encoder(device: &Device) -> wgpu::CommandEncoder {
    device
        .wgpu()
        .create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
}

fn reserved_by_the_allocator(device: &Device) -> Option<u64> {
    let report = device.wgpu().generate_allocator_report()?;
    Some(report.total_reserved_bytes)
}

fn write_words(view: &mut wgpu::BufferViewMut, words: &[u32]) {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    view.slice(..bytes.len()).copy_from_slice(&bytes);
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes
        .chunks_exact(4)
        .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
        .collect()
}

#[test]
fn uploads_arrive_in_order_and_nothing_grows() {
    let device = open();
    let target = device.buffer_with("target", &[0_u32; 1024]).unwrap();
    let mut staging = StagingRing::new(&device, 4096, 2).unwrap();
    let mut readback = ReadbackRing::new(&device, 4096, 2).unwrap();
    let mut before = None;
    for round in 0..100_u32 {
        let sent: Vec<u32> = (0..1024).map(|at| round * 10_000 + at).collect();
        let mut commands = encoder(&device);
        // In two parts that change places.
        let copies = [(0, &target, 2048, 2048), (2048, &target, 0, 2048)];
        staging
            .upload(&device, &mut commands, &copies, |view| {
                write_words(view, &sent)
            })
            .unwrap();
        readback
            .download(&mut commands, &target, 0, 0, 4096)
            .unwrap();
        let submission = device.queue().submit([commands.finish()]);
        staging.submitted(submission.clone());
        readback.submitted(submission);
        let arrived = readback.oldest(&device, words).unwrap().unwrap();
        assert_eq!(arrived[..512], sent[512..], "round {round}");
        assert_eq!(arrived[512..], sent[..512], "round {round}");
        if round == 4 {
            before = reserved_by_the_allocator(&device);
        }
    }
    assert_eq!(reserved_by_the_allocator(&device), before);
    assert_eq!(device.ledger().reserved(), 5 * 4096);
}

#[test]
fn uploads_without_waiting_in_between_arrive_all() {
    let device = open();
    let target = device.buffer_with("target", &[0_u32; 64]).unwrap();
    let mut staging = StagingRing::new(&device, 4, 3).unwrap();
    for round in 0..64_u32 {
        let mut commands = encoder(&device);
        let copies = [(0, &target, u64::from(round) * 4, 4)];
        staging
            .upload(&device, &mut commands, &copies, |view| {
                write_words(view, &[round * round])
            })
            .unwrap();
        let submission = device.queue().submit([commands.finish()]);
        staging.submitted(submission);
    }
    let expected: Vec<u32> = (0..64).map(|round| round * round).collect();
    assert_eq!(device.read::<u32>(&target, 0, 64).unwrap(), expected);
}

#[test]
fn results_come_back_in_order_and_later() {
    let device = open();
    let numbers: Vec<u32> = (100..132).collect();
    let source = device.buffer_with("source", &numbers).unwrap();
    let mut ring = ReadbackRing::new(&device, 16, 3).unwrap();
    assert_eq!(ring.oldest(&device, words).unwrap(), None);
    let send = |ring: &mut ReadbackRing, at: u64| -> Result<(), GpuError> {
        let mut commands = encoder(&device);
        ring.download(&mut commands, &source, at * 16, 0, 16)?;
        let submission = device.queue().submit([commands.finish()]);
        ring.submitted(submission);
        Ok(())
    };
    for at in 0..3 {
        assert!(!ring.is_full());
        send(&mut ring, at).unwrap();
        assert_eq!(ring.pending(), at as usize + 1);
    }
    assert!(ring.is_full());
    let error = send(&mut ring, 3).unwrap_err();
    assert!(
        error.to_string().contains("before an older one was read"),
        "{error}"
    );
    assert_eq!(ring.pending(), 3);
    for at in 3..8 {
        let oldest = ring.oldest(&device, words).unwrap().unwrap();
        let first = 100 + (at as u32 - 3) * 4;
        assert_eq!(oldest, [first, first + 1, first + 2, first + 3]);
        send(&mut ring, at).unwrap();
    }
    for first in [120, 124, 128] {
        assert_eq!(ring.oldest(&device, words).unwrap().unwrap()[0], first);
    }
    assert_eq!(ring.pending(), 0);
    assert_eq!(ring.oldest(&device, words).unwrap(), None);
}

#[test]
fn a_ring_without_room_leaves_nothing_in_the_ledger() {
    let device = open();
    device.ledger().limit_to(250);
    assert!(matches!(
        StagingRing::new(&device, 100, 3),
        Err(GpuError::OverBudget { .. })
    ));
    assert!(matches!(
        ReadbackRing::new(&device, 100, 3),
        Err(GpuError::OverBudget { .. })
    ));
    assert_eq!(device.ledger().reserved(), 0);
    let _ring = StagingRing::new(&device, 100, 2).unwrap();
    let ledger = device.ledger();
    assert_eq!(ledger.reserved(), 200);
    assert!(
        ledger
            .entries()
            .iter()
            .all(|entry| entry.category == Category::Staging)
    );
}

#[test]
fn rings_on_a_lost_device_say_so() {
    let device = open();
    let buffer = device.buffer_with("numbers", &[7_u32; 4]).unwrap();
    let mut staging = StagingRing::new(&device, 16, 1).unwrap();
    let mut readback = ReadbackRing::new(&device, 16, 1).unwrap();
    device.wgpu().destroy();
    let mut commands = encoder(&device);
    let uploaded = staging.upload(&device, &mut commands, &[(0, &buffer, 0, 16)], |view| {
        write_words(view, &[1, 2, 3, 4]);
    });
    assert!(!matches!(uploaded, Err(GpuError::OverBudget { .. })));
    readback.download(&mut commands, &buffer, 0, 0, 16).unwrap();
    let submission = device.queue().submit([commands.finish()]);
    readback.submitted(submission);
    let error = readback.oldest(&device, words).unwrap_err();
    assert!(matches!(error, GpuError::Lost(_)), "{error}");
}
