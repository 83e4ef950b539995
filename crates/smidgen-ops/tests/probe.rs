//! The probe does the arithmetic it claims to do.

use smidgen_gpu::Region;
use smidgen_gpu::testing::{Guarded, device, relative_error};
use smidgen_ops::OpsError;
use smidgen_ops::probe::{FmaPeak, fma_peak};

/// What an element ends in, in double precision.
fn expected(probe: &FmaPeak, lane: usize, member: usize) -> f64 {
    let chain = |chain: u32| {
        let start = 0.25 * member as f64 + lane as f64 + f64::from(chain);
        (0..32 * probe.rounds).fold(start, |value, _| {
            value * f64::from(FmaPeak::MULTIPLIER) + f64::from(FmaPeak::ADDEND)
        })
    };
    (0..probe.chains).map(chain).sum()
}

#[test]
fn every_chain_is_computed_to_its_end() {
    for (chains, rounds, groups) in [(1, 1, 1), (2, 3, 5), (3, 1, 2), (8, 2, 1)] {
        let probe = FmaPeak {
            chains,
            rounds,
            groups,
        };
        let mut memory = Guarded::new();
        let output = memory.output(probe.output_bytes() as usize / 4);
        let launch = fma_peak(&probe, device(true).facts(), output).unwrap();
        let values: Vec<f32> = memory.run(&[launch]).unwrap().read(output);
        let expected: Vec<f64> = (0..values.len())
            .map(|element| expected(&probe, element / 4 % 64, element % 4))
            .collect();
        let error = relative_error(&values, &expected);
        assert!(error < 1e-5, "{probe:?}: {error}");
    }
}

#[test]
fn operations_are_those_of_the_loops() {
    let probe = FmaPeak {
        chains: 3,
        rounds: 2,
        groups: 5,
    };
    assert_eq!(probe.operations(), 5 * 64 * 2 * 32 * 3 * 4 * 2);
    assert_eq!(probe.output_bytes(), 5 * 64 * 4 * 4);
}

#[test]
fn what_cannot_be_launched_is_refused() {
    let facts = device(true).facts();
    let sound = FmaPeak {
        chains: 2,
        rounds: 1,
        groups: 1,
    };
    let room = Region::whole(0, sound.output_bytes());
    assert!(fma_peak(&sound, facts, room).is_ok());
    for probe in [
        FmaPeak { chains: 0, ..sound },
        FmaPeak {
            chains: 17,
            ..sound
        },
        FmaPeak { rounds: 0, ..sound },
        FmaPeak { groups: 0, ..sound },
    ] {
        let refused = fma_peak(&probe, facts, room);
        assert!(
            matches!(refused, Err(OpsError::Shape { .. })),
            "{refused:?}"
        );
    }
    let refused = fma_peak(&sound, facts, Region::whole(0, 16));
    assert!(
        matches!(refused, Err(OpsError::Region { .. })),
        "{refused:?}"
    );
}
