//! What a profile says adds up.

use smidgen::gpu::{Device, DeviceRequest};
use smidgen::profile::{Category, Profile, ProfileOptions};
use smidgen::{Bytes, SessionOptions, Training, zoo};

fn options(batch: u32) -> SessionOptions {
    SessionOptions {
        batch,
        training: Some(Training::default()),
        budget: None,
    }
}

fn device() -> Device {
    Device::open(&DeviceRequest::default()).unwrap()
}

#[test]
fn the_split_of_the_peak_adds_up_to_what_is_reserved_to_the_byte() {
    let device = device();
    for (model, image, batch) in [
        ("resnet20", [3, 32, 32], 7),
        ("mobilenet_v2", [3, 64, 64], 2),
        ("vgg11_bn", [3, 32, 32], 3),
        ("resnet50", [3, 224, 224], 16),
    ] {
        let graph = zoo::build(model, 10, image).unwrap();
        let profile = Profile::planned(device.facts(), &graph, &options(batch), model).unwrap();
        let memory = &profile.memory;
        let sum: u64 = memory.peak.iter().map(|share| share.bytes).sum();
        assert_eq!(sum, profile.footprint.total().0, "{model}");
        assert_eq!(sum, memory.peak_bytes, "{model}");
        let by_category = memory.peak_by_category();
        assert_eq!(by_category.iter().map(|(_, bytes)| bytes).sum::<u64>(), sum);
        // Tensors that hold at once stand apart, inside the arena, and none is forgotten.
        for (step, live) in memory.live.iter().enumerate() {
            let held = memory.blocks.iter();
            let mut held: Vec<_> = held
                .filter(|block| block.first <= step && step <= block.last)
                .collect();
            held.sort_by_key(|block| block.offset);
            assert!(
                held.windows(2)
                    .all(|pair| pair[0].offset + pair[0].bytes <= pair[1].offset)
            );
            assert!(
                held.iter()
                    .all(|block| block.offset + block.bytes <= memory.arena_bytes)
            );
            assert_eq!(held.iter().map(|block| block.bytes).sum::<u64>(), *live);
            assert!(*live <= memory.arena_bytes);
        }
        let stash: u64 = profile.layers.iter().map(|layer| layer.stash_bytes).sum();
        let blocks = memory
            .blocks
            .iter()
            .filter(|block| block.category == Category::Stash);
        assert_eq!(stash, blocks.map(|block| block.bytes).sum::<u64>());
        let parameters: u64 = profile.layers.iter().map(|layer| layer.parameters).sum();
        assert_eq!(parameters, graph.parameter_count(), "{model}");
        let work: u64 = profile.layers.iter().map(|layer| layer.multiply_adds).sum();
        assert_eq!(work, graph.multiply_adds() * u64::from(batch), "{model}");
    }
}

#[test]
fn what_is_measured_is_what_was_planned() {
    let graph = zoo::build("resnet20", 10, [3, 32, 32]).unwrap();
    let planned = Profile::planned(device().facts(), &graph, &options(2), "resnet20").unwrap();
    let budget = planned.memory.peak_bytes + (1 << 20);
    let options = SessionOptions {
        budget: Some(Bytes(budget)),
        ..options(2)
    };
    let samples = ProfileOptions {
        name: "resnet20".into(),
        samples: 2,
        ..ProfileOptions::default()
    };
    let profile = Profile::measure(device(), &graph, &options, &samples).unwrap();
    let reserved = profile.reserved.as_ref().unwrap();
    assert_eq!(reserved.arena, reserved.planned_arena);
    assert_eq!(reserved.ledger, reserved.planned_ledger);
    assert!(reserved.allocator.is_none_or(|bytes| bytes <= budget));
    let times = profile.times.as_ref().unwrap();
    assert!(times.device_seconds > 0.0 && times.step_seconds > 0.0);
    for step in &profile.steps {
        assert!(step.seconds.is_some(), "{step:?}");
    }
    let conv = profile
        .layers
        .iter()
        .find(|layer| layer.name == "conv1")
        .unwrap();
    assert!(conv.forward_seconds.unwrap() > 0.0 && conv.backward_seconds.unwrap() > 0.0);
    assert!(
        (0.0..1.2).contains(&conv.of_peak.unwrap()),
        "{:?}",
        conv.of_peak
    );

    let text = profile.text();
    assert!(
        text.contains("layer1.0.conv1") && text.contains(&profile.memory.peak_bytes.to_string())
    );
    let json: serde_json::Value = serde_json::from_str(&profile.json().unwrap()).unwrap();
    assert_eq!(json["memory"]["peak_bytes"], profile.memory.peak_bytes);
    let trace: serde_json::Value = serde_json::from_str(&profile.trace()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let of_kind = |kind: &str| events.iter().filter(|event| event["ph"] == kind).count();
    assert_eq!(
        (of_kind("X"), of_kind("C")),
        (profile.steps.len(), profile.steps.len())
    );
    let page = profile.html().unwrap();
    assert!(page.contains("\"network\":\"resnet20\"") && !page.contains("/*PROFILE*/"));
    assert!(
        !page.contains("http://") && !page.contains("https://"),
        "the page needs no network"
    );
}
