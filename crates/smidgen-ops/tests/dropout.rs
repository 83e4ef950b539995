//! Dropout against its twin, bit for bit.

mod maps;

use maps::{read, room, shape};
use smidgen_gpu::testing::Guarded;
use smidgen_ops::MapShape;
use smidgen_ops::control::Control;
use smidgen_ops::dropout::{self, Dropout, Regions};
use smidgen_reference::dropout as reference;
use smidgen_reference::elementwise::{MapCase, cases};
use smidgen_reference::layout::to_quads;
use smidgen_reference::numbers::normal;

fn run(map: &MapCase, seed: u32, layer: &Dropout, values: &[f32], in_place: bool) -> Vec<f32> {
    let mut memory = Guarded::new();
    let control = Control {
        seed,
        ..Control::default()
    };
    let control = memory.input(&[control]);
    let input = maps::place(&mut memory, map, values);
    let output = if in_place {
        input
    } else {
        room(&mut memory, map)
    };
    let launches = dropout::dropout(
        &shape(map),
        layer,
        &Regions {
            control,
            input: input.into(),
            output,
        },
    )
    .unwrap();
    let outcome = memory.run(&launches).unwrap();
    read(&outcome, map, output); // The padding is zero.
    outcome.read(output)
}

#[test]
fn the_mask_is_that_of_the_twin_bit_for_bit() {
    for map in cases() {
        for (seed, layer, rate) in [
            (0, 0, 0.5),
            (0xffff_ffff, 3, 0.1),
            (17, 0x8000_0000, 0.9),
            (1, 1, 0.0),
        ] {
            let values = normal(1, map.count());
            let layer = Dropout { rate, layer };
            let output = run(&map, seed, &layer, &values, false);
            assert_eq!(output, run(&map, seed, &layer, &values, true), "in place");
            let quads = to_quads(&values, map.batch, map.channels, map.image_pixels());
            let scale = 1.0 / (1.0 - rate);
            let expected: Vec<f32> = quads
                .iter()
                .enumerate()
                .map(|(element, value)| {
                    if reference::keeps(seed, layer.layer, element, rate) {
                        value * scale
                    } else {
                        0.0
                    }
                })
                .collect();
            assert_eq!(output, expected, "{} at rate {rate}", map.name);
        }
    }
}

#[test]
fn seeds_and_layers_draw_masks_that_differ() {
    let map = MapCase::new("ones", [2, 8, 16, 16]);
    let ones = vec![1.0; map.count()];
    let mask = |seed, layer| run(&map, seed, &Dropout { rate: 0.5, layer }, &ones, false);
    let first = mask(1, 1);
    for other in [mask(1, 2), mask(2, 1)] {
        let same = first.iter().zip(&other).filter(|(a, b)| a == b).count() as f64;
        assert!((same / first.len() as f64 - 0.5).abs() < 0.05);
    }
}

#[test]
fn rates_out_of_range_are_refused() {
    let region = smidgen_gpu::Region::whole(0, 64);
    let regions = Regions {
        control: region,
        input: region.into(),
        output: region,
    };
    for rate in [-0.1, 1.0, f32::NAN] {
        let layer = Dropout { rate, layer: 0 };
        let error = dropout::dropout(&MapShape::new(1, 4, 1, 1), &layer, &regions).unwrap_err();
        assert!(error.to_string().contains("rate"));
    }
}
