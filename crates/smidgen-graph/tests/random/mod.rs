//! Random networks for tests.

use smidgen_graph::{Activation, Builder, Convolution, Graph, NodeId, Pool};

/// A generator of small random numbers.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.next() as usize % limit
    }

    pub(crate) fn unit(&mut self) -> f64 {
        self.next() as f64 / f64::from(1_u32 << 31) * 2.0 - 1.0
    }
}

pub(crate) fn same(channels: u32) -> Convolution {
    Convolution::new(channels, 3).padding(1)
}

/// Ends a network with what every map that nobody used says.
pub(crate) fn close(mut network: Builder, unused: &[NodeId]) -> Graph {
    let pooled: Vec<NodeId> = unused
        .iter()
        .map(|&map| network.global_average_pool(map).expect("a map"))
        .collect();
    let x = network.concat(&pooled).expect("all of one pixel");
    let x = network.linear("fc", x, 3).expect("one pixel");
    network.finish(x).expect("everything is used")
}

/// A random network: any layer over any earlier map, and at the end everything that nobody used.
pub(crate) fn random_graph(seed: u64) -> Graph {
    let mut random = Random(seed);
    let mut network = Builder::new(format!("random {seed}"), [3, 6, 5]).unwrap();
    let first = network.convolution("c0", network.input(), same(4)).unwrap();
    let mut maps = vec![first];
    let mut used = vec![false];
    for number in 1..9 + random.below(5) {
        let place = random.below(maps.len());
        let x = maps[place];
        let [channels, height, width] = network.shape(x).unwrap();
        let name = format!("layer{number}");
        let halves = height >= 3 && width >= 3;
        let made = match random.below(14) {
            0 => network.convolution(&name, x, same(4)),
            1 => network.convolution(&name, x, same(channels).groups(channels).without_bias()),
            2 if halves && channels % 2 == 0 => network.convolution(
                &name,
                x,
                Convolution::new(6, [2, 3]).stride([2, 1]).groups(2),
            ),
            3 => network.convolution(&name, x, same(4).padding(2).dilation(2)),
            4 | 5 => network.batch_norm(&name, x),
            6 => network.relu(x),
            7 => {
                let kinds = [
                    Activation::Relu6,
                    Activation::HardSwish,
                    Activation::Silu,
                    Activation::Gelu,
                ];
                network.activation(x, kinds[random.below(4)])
            }
            8 if halves => network.max_pool(x, Pool::new(3).stride(2).padding(1)),
            9 if halves => {
                let pool = Pool::new([3, 2]).stride(2).padding(1);
                network.average_pool(
                    x,
                    if random.below(2) == 0 {
                        pool
                    } else {
                        pool.exclude_padding()
                    },
                )
            }
            10 => network.shortcut(x, 1 + random.below(2) as u32, channels + 3),
            11 => network.dropout(x, 0.3),
            choice => {
                let fits: Vec<usize> = (0..maps.len())
                    .filter(|&other| {
                        let [more, rows, columns] = network.shape(maps[other]).unwrap();
                        (rows, columns) == (height, width) && (choice != 13 || more == channels)
                    })
                    .collect();
                let other = fits[random.below(fits.len())];
                used[other] = true;
                if choice == 13 {
                    network.add(x, maps[other])
                } else {
                    network.concat(&[x, maps[other], x])
                }
            }
        };
        used[place] = true;
        maps.push(made.unwrap());
        used.push(false);
    }
    let unused: Vec<NodeId> = (0..maps.len())
        .filter(|&map| !used[map])
        .map(|map| maps[map])
        .collect();
    let mut graph = close(network, &unused);
    if seed % 3 == 1 {
        let names: Vec<String> = graph
            .parameters()
            .iter()
            .map(|parameter| parameter.name.clone())
            .collect();
        for name in names.iter().filter(|name| !name.starts_with("fc")) {
            if random.below(2) == 0 {
                graph.freeze(name).unwrap();
            }
        }
    }
    graph
}
