//! Softmax on the device against its twin and PyTorch.
mod maps;

use maps::{place, read, room, shape};
use smidgen_gpu::testing::{Guarded, device, relative_error};
use smidgen_ops::softmax;
use smidgen_reference::elementwise::MapCase;
use smidgen_reference::golden::Golden;
use smidgen_reference::layout::widen;
use smidgen_reference::numbers::normal;
use smidgen_reference::softmax as twin;

/// Output and input gradient on the device.
fn run(map: &MapCase, input: &[f32], output_gradient: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let (shape, facts) = (shape(map), device(false).facts());
    let mut memory = Guarded::new();
    let x = place(&mut memory, map, input);
    let y = room(&mut memory, map);
    let dy = place(&mut memory, map, output_gradient);
    let dx = room(&mut memory, map);
    let launches = [
        softmax::forward(&shape, facts, x, y).unwrap(),
        softmax::backward(&shape, facts, y, dy, dx).unwrap(),
    ];
    let outcome = memory.run(&launches).unwrap();
    (read(&outcome, map, y), read(&outcome, map, dx))
}

#[test]
fn every_case_agrees_with_the_twin() {
    for map in twin::cases() {
        let (x, dy) = (normal(1, map.count()), normal(2, map.count()));
        let (y, dx) = run(&map, &x, &dy);
        let expected = twin::forward(&map, &widen(&x));
        let error = relative_error(&y, &expected);
        assert!(error < 1e-5, "{}: output off by {error}", map.name);
        let expected_gradient = twin::backward(&map, &expected, &widen(&dy));
        let error = relative_error(&dx, &expected_gradient);
        assert!(error < 1e-5, "{}: gradient off by {error}", map.name);
    }
}

#[test]
fn large_inputs_do_not_overflow() {
    let map = MapCase::new("large", [3, 6, 1, 1]);
    let x: Vec<f32> = normal(1, map.count()).iter().map(|x| x * 1e4).collect();
    let (y, _) = run(&map, &x, &normal(2, map.count()));
    assert!(relative_error(&y, &twin::forward(&map, &widen(&x))) < 1e-5);
}

#[test]
fn it_agrees_with_pytorch() {
    let Some(golden) = Golden::open("operators.safetensors") else {
        return;
    };
    let tensor = |name: &str| golden.tensor(&format!("softmax.{name}")).unwrap();
    let (sizes, x) = tensor("x");
    let map = MapCase::new("golden", [sizes[0], sizes[1], 1, 1]);
    let (y, dx) = run(&map, &x, &tensor("dy").1);
    assert!(relative_error(&y, &widen(&tensor("y").1)) < 1e-5);
    assert!(relative_error(&dx, &widen(&tensor("dx").1)) < 1e-5);
}
