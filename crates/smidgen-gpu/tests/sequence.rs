//! Launches are checked before they are bound, and their parameters are stored once.

use smidgen_gpu::{Category, Device, DeviceRequest, GpuError, Launch, Region, Sequence, params};

params! { struct FillParams { count: u32, value: f32 } }

fn fill(region: Region, value: f32) -> Launch {
    let count = (region.size / 4) as u32;
    Launch::new(
        "ops/fill.wgsl",
        &[],
        &FillParams { count, value },
        vec![region],
        [count.div_ceil(256).max(1), 1, 1],
    )
}

fn open() -> Device {
    Device::open(&DeviceRequest::default()).unwrap()
}

#[test]
fn launches_run_in_order_on_the_bytes_they_name() {
    let device = open();
    let buffers = [0, 1].map(|_| device.buffer_with("numbers", &[0.0_f32; 256]).unwrap());
    let part = |buffer, offset, size| Region {
        buffer,
        offset,
        size,
    };
    let launches = [
        fill(part(0, 0, 1024), 1.0),
        fill(part(0, 256, 512), 2.0),
        fill(part(1, 512, 16), 3.0),
        fill(part(0, 512, 4), 4.0),
    ];
    let sequence = Sequence::prepare(&device, &launches, &buffers.each_ref()).unwrap();
    device.run(|pass| sequence.record(pass)).unwrap();
    let mut expected = [[1.0; 256], [0.0; 256]];
    expected[0][64..192].fill(2.0);
    expected[0][128] = 4.0;
    expected[1][128..132].fill(3.0);
    for (buffer, expected) in buffers.iter().zip(&expected) {
        assert_eq!(device.read::<f32>(buffer, 0, 256).unwrap(), expected);
    }
    // Part of a sequence runs alone.
    device
        .run(|pass| sequence.record_range(pass, 1..2))
        .unwrap();
    assert_eq!(device.read::<f32>(&buffers[0], 512, 1).unwrap(), [2.0]);
}

#[test]
fn equal_parameters_are_stored_once_and_the_ledger_gets_what_was_announced() {
    let device = open();
    let alignment = device.facts().uniform_alignment;
    let buffer = device.storage_buffer("numbers", 4096).unwrap();
    let part = |offset| Region {
        buffer: 0,
        offset,
        size: 1024,
    };
    let once = Sequence::uniform_bytes(&[fill(part(0), 1.0)], alignment);
    assert!(once >= 16 && once.is_multiple_of(alignment));
    let launches = [
        fill(part(0), 1.0),
        fill(part(1024), 1.0),
        fill(part(2048), 2.0),
        fill(part(3072), 1.0),
    ];
    let announced = Sequence::uniform_bytes(&launches, alignment);
    assert_eq!(announced, 2 * once);
    let sequence = Sequence::prepare(&device, &launches, &[&buffer]).unwrap();
    let entered: u64 = device
        .ledger()
        .entries()
        .iter()
        .filter(|entry| entry.category == Category::Uniform)
        .map(|entry| entry.bytes)
        .sum();
    assert_eq!(entered, announced);
    device.run(|pass| sequence.record(pass)).unwrap();
    let values = device.read::<f32>(&buffer, 0, 1024).unwrap();
    let ends = [0, 255, 256, 511, 512, 767, 768, 1023].map(|at| values[at]);
    assert_eq!(ends, [1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 1.0, 1.0]);

    assert_eq!(Sequence::uniform_bytes(&[], alignment), 0);
    assert!(Sequence::prepare(&device, &[], &[]).unwrap().is_empty());
    assert_eq!(device.ledger().reserved(), 4096 + announced);
}

#[test]
fn labels_are_the_shaders_name_or_the_callers() {
    let device = open();
    let buffer = device.storage_buffer("numbers", 1024).unwrap();
    let region = Region::whole(0, 1024);
    let launches = [
        fill(region, 1.0),
        fill(region, 2.0).labelled("layer1.conv1 forward"),
    ];
    let sequence = Sequence::prepare(&device, &launches, &[&buffer]).unwrap();
    assert_eq!(sequence.len(), 2);
    assert!(!sequence.is_empty());
    assert_eq!(sequence.label(0), Some("ops/fill"));
    assert_eq!(sequence.label(1), Some("layer1.conv1 forward"));
    assert_eq!(sequence.label(2), None);
}

#[test]
fn regions_that_cannot_be_bound_are_refused_by_label_and_leave_nothing_behind() {
    let device = open();
    let buffer = device.storage_buffer("numbers", 4096).unwrap();
    let alignment = device.facts().storage_alignment;
    let region = |offset, size| Region {
        buffer: 0,
        offset,
        size,
    };
    for (region, said) in [
        (region(alignment / 2, 64), "multiples of"),
        (region(0, 0), "above 0"),
        (region(0, 62), "multiples of 4"),
        (region(0, 4100), "its buffer has 4096"),
        (region(4096, 4), "its buffer has 4096"),
        (region(u64::MAX - 255, 1024), "its buffer has 4096"),
        (
            Region {
                buffer: 1,
                ..region(0, 64)
            },
            "names buffer 1, there are 1",
        ),
    ] {
        let launch = Launch {
            regions: vec![region],
            ..fill(Region::whole(0, 64), 1.0)
        }
        .labelled("layer 7");
        let error = Sequence::prepare(&device, &[launch], &[&buffer]).unwrap_err();
        assert!(
            matches!(&error, GpuError::Launch { label, .. } if label == "layer 7"),
            "{error}"
        );
        assert!(error.to_string().contains(said), "{said}: {error}");
    }
    assert_eq!(device.ledger().reserved(), 4096);
    device.check().unwrap();
}

#[test]
fn regions_of_one_launch_may_not_overlap() {
    params! { struct SumParams { count: u32, splits: u32 } }
    let device = open();
    let buffer = device.buffer_with("numbers", &[1.0_f32; 512]).unwrap();
    let sum = |partial, total| {
        Launch::new(
            "conv/sum_partials.wgsl",
            &[],
            &SumParams {
                count: 16,
                splits: 4,
            },
            vec![partial, total],
            [1, 1, 1],
        )
    };
    let region = |offset, size| Region {
        buffer: 0,
        offset,
        size,
    };
    for (partial, total) in [
        (region(0, 1024), region(0, 256)),
        (region(0, 1024), region(768, 256)),
        (region(256, 1024), region(0, 512)),
    ] {
        let error = Sequence::prepare(&device, &[sum(partial, total)], &[&buffer]).unwrap_err();
        assert!(error.to_string().contains("0 and 1 overlap"), "{error}");
    }
    let side_by_side = sum(region(0, 1024), region(1024, 256));
    let sequence = Sequence::prepare(&device, &[side_by_side], &[&buffer]).unwrap();
    device.run(|pass| sequence.record(pass)).unwrap();
    let total = device.read::<f32>(&buffer, 1024, 65).unwrap();
    assert_eq!(total[..64], [4.0; 64]);
    assert_eq!(total[64], 1.0);
}

#[test]
fn a_region_larger_than_a_binding_is_refused() {
    let device = open();
    let facts = device.facts();
    let bytes = facts.max_binding_bytes + 256;
    // A buffer of that size is reserved only where it may be and costs little.
    if bytes > facts.max_buffer_bytes || bytes > 256 << 20 {
        return;
    }
    let buffer = device.storage_buffer("large", bytes).unwrap();
    let launch = fill(Region::whole(0, bytes), 1.0).labelled("too much");
    let error = Sequence::prepare(&device, &[launch], &[&buffer]).unwrap_err();
    assert!(
        matches!(&error, GpuError::BindingTooLarge { label, .. } if label == "too much"),
        "{error}"
    );
}

#[test]
fn a_launch_without_a_row_in_the_table_of_variants_is_refused() {
    let region = Region::whole(0, 64);
    let unknown = Launch {
        shader: "ops/no_such_file.wgsl",
        ..fill(region, 1.0)
    };
    let defined = Launch {
        defines: vec![("TILE".into(), "3".into())],
        ..fill(region, 1.0)
    };
    for launch in [unknown, defined] {
        let error = launch.variant().unwrap_err();
        assert!(error.to_string().contains("no row"), "{error}");
    }
    fill(region, 1.0).variant().unwrap();
}
