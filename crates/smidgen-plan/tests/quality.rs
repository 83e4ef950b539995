//! What more bytes and more variance buy, on random networks.

#[path = "milp/networks.rs"]
mod networks;

use networks::{Random, device, program};
use smidgen_graph::MapShape;
use smidgen_graph::forms::{Code, Codes, Form, Outline};
use smidgen_plan::{Choice, Planner};

const NETWORKS: u64 = 24;
/// About those of nothing, 8, 4 and 2 bits, and what lies between.
const QUALITIES: [f64; 7] = [0.0, 1e-5, 1e-4, 2e-3, 0.02, 0.1, 0.6];

/// So many bits a value, with a word for 64 of them.
struct Bits;

impl Codes for Bits {
    fn bytes(&self, code: Code, shape: MapShape) -> Option<u64> {
        let bits = match code {
            Code::Half => 16,
            Code::Eight | Code::BoundedEight => 8,
            Code::Four | Code::Rectified | Code::Bounded => 4,
            Code::Two | Code::RectifiedTwo | Code::SlopeSix => 2,
            Code::Slope => 1,
        };
        let values = shape.elements();
        Some(values * bits / 8 + values / 16)
    }
}

/// Seconds of the fastest that is so low.
fn seconds(curve: &[Choice], height: u64) -> f64 {
    let found = curve.iter().find(|choice| choice.height <= height);
    found.map_or(f64::INFINITY, |choice| choice.seconds)
}

#[test]
fn more_bytes_and_more_variance_never_take_more_time() {
    for seed in 0..NETWORKS {
        let mut random = Random(seed);
        let program = program(&mut random).unwrap();
        let costs = device(&mut random);
        let outline = Outline::new(&program).with_codes(&program, &Bits);
        let workspaces = vec![0; program.operations.len()];
        let planner = Planner::new(&program, &outline, &workspaces, 256, &costs);
        let curves = QUALITIES.map(|quality| planner.curve(quality));
        let mut heights: Vec<u64> = (curves.iter().flatten())
            .map(|choice| choice.height)
            .collect();
        heights.sort_unstable();
        for (curve, quality) in curves.iter().zip(QUALITIES) {
            assert!(curve.iter().all(|choice| choice.variance <= quality));
            // A quality promises errors that are zero on the mean.
            let mut forms = curve.iter().flat_map(|choice| choice.forms.values());
            assert!(forms.all(|form| match form {
                Form::Coded(code) | Form::Masked(code) => !code.is_bounded(),
                _ => true,
            }));
            for pair in heights.windows(2) {
                assert!(seconds(curve, pair[1]) <= seconds(curve, pair[0]));
            }
        }
        for pair in curves.windows(2) {
            for height in &heights {
                let [less, more] = [&pair[0], &pair[1]].map(|curve| seconds(curve, *height));
                assert!(
                    more <= less,
                    "network {seed} in {height}: {less} and {more}"
                );
            }
        }
    }
}
