//! The example runs, and its answers are right.

#[path = "../examples/listed_pixels.rs"]
#[allow(dead_code)]
mod listed_pixels;

#[test]
fn the_example_changes_the_wanted_pixels_and_no_others() {
    let report = listed_pixels::run().unwrap();
    assert_eq!(report.listed, report.wanted);
    // A square of 6 by 6 and one more all around.
    assert_eq!(report.reached, 64);
    let of = |map: &[f32], pixel: usize| map[pixel * 4..][..4].to_vec();
    for pixel in 0..256 {
        let mut expected = of(&report.input, pixel);
        if report.listed.contains(&(pixel as u32)) {
            let around = (0..9).map(|tap| pixel - 17 + tap / 3 * 16 + tap % 3);
            let sum: f32 = around
                .flat_map(|from| of(&report.input, from))
                .map(|value| value * 0.125)
                .sum();
            expected.iter_mut().for_each(|value| *value += sum);
        }
        let found = of(&report.output, pixel);
        let pairs = found.iter().zip(&expected);
        assert!(
            pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-5),
            "{pixel}"
        );
    }
    // Each listed pixel hands out 9 * 4 weights of an eighth to each of four channels.
    let total: f32 = report.input_gradient.iter().sum();
    assert!((total - 36.0 * 36.0 * 0.125 * 4.0).abs() < 1e-2);
    // The middle tap of channel 0: its values at the listed pixels.
    let expected: f32 = (report.listed.iter())
        .map(|pixel| report.input[*pixel as usize * 4])
        .sum();
    assert!((report.weight_gradient[4] - expected).abs() < 1e-4);
}
