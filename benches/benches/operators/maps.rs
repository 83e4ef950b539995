//! What works on maps pixel by pixel or window by window.

use crate::{control, with_large};
use criterion::Criterion;
use smidgen_benches::{Memory, map_shape, measure_bytes};
use smidgen_gpu::Source;
use smidgen_ops::pool::Divisor;
use smidgen_ops::{
    Activation, MapShape, activation, concat, dropout, elementwise, pool, resize, shortcut,
};
use smidgen_reference as reference;
use smidgen_reference::elementwise::MapCase;

pub(crate) fn activations(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("activation");
    for map in with_large(reference::elementwise::cases()) {
        let shape = map_shape(&map);
        let mut memory = Memory::new();
        let [value, output, gradient] = [0; 3].map(|_| memory.values(shape.bytes()));
        // The identity is a copy, which is measured as such.
        for kind in Activation::ALL.into_iter().skip(1) {
            let value = Source {
                activation: kind,
                ..value.into()
            };
            let launches = activation::apply(&shape, &value, output);
            let name = format!("{kind:?} forward");
            measure_bytes(&mut group, &name, map.name, &memory, launches);
            let regions = activation::Backward {
                value,
                output_gradient: output,
                input_gradient: gradient,
            };
            let launches = activation::backward(&shape, &regions);
            let name = format!("{kind:?} backward");
            measure_bytes(&mut group, &name, map.name, &memory, launches);
        }
    }
}

pub(crate) fn plain(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("map");
    for map in with_large(reference::elementwise::cases()) {
        let shape = map_shape(&map);
        let mut memory = Memory::new();
        let control = control(&mut memory);
        let [left, right, output] = [0; 3].map(|_| memory.values(shape.bytes()));
        let enlarged = memory.values(4 * shape.bytes());
        let mut measure = |name, launches| {
            measure_bytes(&mut group, name, map.name, &memory, launches);
        };
        measure("copy", elementwise::copy(shape.bytes(), left, output));
        let regions = elementwise::Add {
            left: left.into(),
            right: right.into(),
            output,
        };
        let launches = elementwise::add(&shape, Activation::Relu, &regions);
        measure("add with ReLU", launches);
        let layer = dropout::Dropout {
            rate: 0.1,
            layer: 0,
        };
        let regions = dropout::Regions {
            control,
            input: left.into(),
            output,
        };
        measure("dropout", dropout::dropout(&shape, &layer, &regions));
        measure("upsample", resize::upsample(&shape, left, enlarged));
        let launches = resize::upsample_backward(&shape, enlarged, output);
        measure("upsample backward", launches);
        let launches = pool::global_average(&shape, &left.into(), output);
        measure("global average", launches);
        let launches = pool::global_average_backward(&shape, right, None, output);
        measure("global average backward", launches);
    }
}

pub(crate) fn pools(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pool");
    let mut cases = reference::pool::cases();
    cases.push(reference::pool::PoolCase {
        map: MapCase::new("8x64x112x112, 3x3, stride 2", [8, 64, 112, 112]),
        kernel: [3, 3],
        stride: [2, 2],
        padding: [1, 1],
    });
    cases.push(reference::pool::PoolCase {
        map: MapCase::new("8x64x112x112, 2x2, stride 2", [8, 64, 112, 112]),
        kernel: [2, 2],
        stride: [2, 2],
        padding: [0, 0],
    });
    for case in cases {
        let windows = pool::Pool {
            input: map_shape(&case.map),
            kernel: case.kernel.map(|size| size as u32),
            stride: case.stride.map(|step| step as u32),
            padding: case.padding.map(|size| size as u32),
        };
        let mut memory = Memory::new();
        let input = memory.values(windows.input.bytes());
        let output = memory.values(map_shape(&case.output()).bytes());
        // Every maximum at the first tap: the same work as anywhere else.
        let bytes = windows.taps_bytes().expect("the cases fit");
        let taps = memory.words(&vec![0; bytes as usize / 4]);
        let mut measure = |name, launches| {
            measure_bytes(&mut group, name, case.map.name, &memory, launches);
        };
        let inside = Divisor::Inside;
        measure(
            "max",
            pool::max(&windows, &input.into(), output, Some(taps)),
        );
        let launches = pool::max_backward(&windows, taps, output, None, input);
        measure("max backward", launches);
        let launches = pool::average(&windows, inside, &input.into(), output);
        measure("average", launches);
        let launches = pool::average_backward(&windows, inside, output, None, input);
        measure("average backward", launches);
    }
}

pub(crate) fn shortcuts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("shortcut");
    for case in reference::elementwise::shortcut_cases() {
        let layer = shortcut::Shortcut {
            input: map_shape(&case.map),
            output_channels: case.output_channels as u32,
            channel_offset: case.channel_offset as u32,
            stride: case.stride as u32,
        };
        let mut memory = Memory::new();
        let input = memory.values(layer.input.bytes());
        let output = memory.values(map_shape(&case.output()).bytes());
        let launches = shortcut::forward(&layer, &input.into(), output);
        measure_bytes(&mut group, "forward", case.map.name, &memory, launches);
        let launches = shortcut::backward(&layer, false, output, input);
        measure_bytes(&mut group, "backward", case.map.name, &memory, launches);
    }
}

pub(crate) fn concats(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("concat");
    for case in reference::elementwise::concat_cases() {
        let map = |channels: usize| {
            let [batch, height, width] =
                [case.batch, case.height, case.width].map(|size| size as u32);
            MapShape::new(batch, channels as u32, height, width)
        };
        let mut memory = Memory::new();
        let parts: Vec<_> = case
            .channels
            .iter()
            .map(|channels| concat::Part {
                channels: *channels as u32,
                map: memory.values(map(*channels).bytes()).into(),
            })
            .collect();
        let shape = map(case.channels.iter().sum());
        let output = memory.values(shape.bytes());
        let launches = concat::forward(&shape, &parts, output);
        measure_bytes(&mut group, "forward", case.name, &memory, launches);
        let launches = concat::backward(&shape, output, &parts);
        measure_bytes(&mut group, "backward", case.name, &memory, launches);
    }
}
