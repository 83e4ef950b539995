//! Selection against sorting: exact, whatever the numbers.

use smidgen_gpu::Region;
use smidgen_gpu::testing::Guarded;
use smidgen_ops::OpsError;
use smidgen_ops::selection::top_k;
use smidgen_reference::numbers::{below, normal};
use smidgen_reference::selection as twin;

fn check(values: &[f32], wanted: usize) {
    let mut memory = Guarded::new();
    let input = memory.input(values);
    let selected = memory.output(values.len());
    let launch = top_k(values.len() as u32, wanted as u32, input, selected).unwrap();
    let found: Vec<u32> = memory.run(&[launch]).unwrap().read(selected);
    assert_eq!(
        found,
        twin::top_k(values, wanted),
        "{wanted} of {}",
        values.len()
    );
}

#[test]
fn exactly_as_many_as_wanted_and_the_first_of_equal_ones() {
    let scattered = normal(1, 5000);
    for wanted in [0, 1, 2, 2500, 4999, 5000] {
        check(&scattered, wanted);
    }
    // Many equal ones, zeros of both signs, one number, fewer than lanes.
    let few: Vec<f32> = below(2, 5, 3001)
        .into_iter()
        .map(|value| value as f32 - 2.0)
        .collect();
    for wanted in [0, 1, 700, 1801, 3001] {
        check(&few, wanted);
    }
    check(&[0.0, -0.0, 0.0, -0.0], 2);
    check(&[3.5], 1);
    check(
        &[
            f32::MIN_POSITIVE,
            f32::INFINITY,
            -1e-40,
            f32::NAN,
            -f32::MAX,
        ],
        2,
    );
}

#[test]
fn more_than_there_are_is_refused() {
    let region = Region::whole(0, 40);
    assert!(matches!(
        top_k(10, 11, region, region),
        Err(OpsError::Shape { .. })
    ));
    assert!(matches!(
        top_k(0, 0, region, region),
        Err(OpsError::Shape { .. })
    ));
    assert!(matches!(
        top_k(11, 3, region, region),
        Err(OpsError::Region { .. })
    ));
}

#[test]
fn any_numbers() {
    let counts = below(3, 900, 12);
    for (seed, count) in (10..).zip(counts) {
        let mut values = normal(seed, count as usize + 1);
        if seed % 2 == 0 {
            values.iter_mut().for_each(|value| *value = value.round());
        }
        let wanted = below(seed, count + 2, 1)[0] as usize;
        check(&values, wanted);
    }
}
