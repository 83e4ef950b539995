//! Networks that do not fit are refused, and the layer is named.

use smidgen_graph::{
    Activation, Builder, Convolution, FilterState, GraphError, Lowering, Mode, NodeId, Optimizer,
    Pool,
};

fn network() -> (Builder, NodeId) {
    let mut network = Builder::new("test", [3, 8, 6]).unwrap();
    let x = network
        .convolution("conv", network.input(), Convolution::new(4, 3))
        .unwrap();
    (network, x)
}

fn refuses(made: Result<NodeId, GraphError>, words: &[&str]) {
    let error = made.unwrap_err().to_string();
    for word in words {
        assert!(error.contains(word), "`{error}` does not say `{word}`");
    }
}

#[test]
fn shapes() {
    let (mut network, x) = network();
    assert_eq!(network.shape(x), Ok([4, 6, 4]));
    let pooled = network
        .max_pool(x, Pool::new(3).stride(2).padding(1))
        .unwrap();
    assert_eq!(network.shape(pooled), Ok([4, 3, 2]));
    let shortcut = network.shortcut(x, 4, 9).unwrap();
    assert_eq!(network.shape(shortcut), Ok([9, 2, 1]));
    let together = network.concat(&[x, x, x]).unwrap();
    assert_eq!(network.shape(together), Ok([12, 6, 4]));
}

#[test]
fn errors_name_the_layer_and_the_sizes() {
    let (mut network, x) = network();
    refuses(
        network.convolution("big", x, Convolution::new(4, 7)),
        &["`big`", "[7, 7]", "6x4"],
    );
    refuses(
        network.convolution("grouped", x, Convolution::new(6, 1).groups(4)),
        &["`grouped`", "6 output", "4 groups"],
    );
    refuses(
        network.convolution("none", x, Convolution::new(0, 1)),
        &["`none`"],
    );
    refuses(
        network.convolution("still", x, Convolution::new(1, 1).stride(0)),
        &["`still`", "stride"],
    );
    refuses(
        network.convolution("vast", x, Convolution::new(u32::MAX, 1)),
        &["`vast`"],
    );
    refuses(network.linear("fc", x, 10), &["`fc`", "4x6x4", "flatten"]);
    refuses(
        network.max_pool(x, Pool::new(9)),
        &["conv.max_pool", "[9, 9]", "6x4"],
    );
    refuses(network.max_pool(x, Pool::new(2).padding(2)), &["half"]);
    refuses(network.dropout(x, 1.0), &["conv.dropout", "1"]);
    refuses(network.dropout(x, f32::NAN), &["NaN"]);
    refuses(network.shortcut(x, 1, 3), &["4 channels", "3"]);
    refuses(network.concat(&[]), &["nothing"]);
    let other = network
        .convolution("other", x, Convolution::new(5, 1))
        .unwrap();
    refuses(
        network.add(x, other),
        &["`conv`", "`other`", "4x6x4", "5x6x4"],
    );
    let small = network.average_pool(x, Pool::new(2)).unwrap();
    refuses(network.concat(&[x, small]), &["conv.average_pool", "6x4"]);
    let flat = network.flatten(x).unwrap();
    refuses(network.batch_norm("bn", flat), &["`bn`", "flattened"]);
    refuses(network.add(flat, x), &["flattened"]);
}

#[test]
fn names_are_unique() {
    let (mut network, x) = network();
    let duplicate = Err(GraphError::DuplicateName {
        name: "conv".to_owned(),
    });
    assert_eq!(
        network.convolution("conv", x, Convolution::new(4, 1)),
        duplicate
    );
    assert_eq!(network.batch_norm("conv", x), duplicate);
    let first = network.relu(x).unwrap();
    let second = network.relu(x).unwrap();
    let x = network.add(first, second).unwrap();
    let x = network.global_average_pool(x).unwrap();
    let graph = network.finish(x).unwrap();
    let names: Vec<&str> = graph
        .nodes()
        .iter()
        .map(|node| node.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "input",
            "conv",
            "conv.relu",
            "conv.relu2",
            "conv.relu.add",
            "conv.relu.add.pool"
        ]
    );
}

#[test]
fn what_nobody_uses_is_an_error() {
    let (mut network, x) = network();
    network.activation(x, Activation::Silu).unwrap();
    let x = network.global_average_pool(x).unwrap();
    assert_eq!(
        network.finish(x),
        Err(GraphError::Unused {
            layer: "conv.silu".to_owned()
        })
    );
    let (network, x) = self::network();
    assert!(network.finish(x).unwrap_err().to_string().contains("4x6x4"));
    let (_, foreign) = self::network();
    let empty = Builder::new("empty", [3, 8, 8]).unwrap();
    assert!(empty.shape(foreign).is_err());
    assert!(Builder::new("nothing", [3, 0, 8]).is_err());
}

#[test]
fn a_flattened_map_is_convolved_as_a_whole() {
    let (mut network, x) = network();
    let x = network.flatten(x).unwrap();
    let x = network.dropout(x, 0.5).unwrap();
    let x = network.linear("fc1", x, 5).unwrap();
    let x = network.flatten(x).unwrap();
    let x = network.linear("fc2", x, 2).unwrap();
    let graph = network.finish(x).unwrap();
    let shapes: Vec<&[usize]> = graph
        .parameters()
        .iter()
        .map(|parameter| parameter.shape.as_slice())
        .collect();
    assert_eq!(
        shapes,
        [&[4, 3, 3, 3][..], &[4], &[5, 96], &[5], &[2, 5], &[2]]
    );
    assert_eq!(graph.multiply_adds(), 4 * 27 * 24 + 5 * 96 + 2 * 5);
}

#[test]
fn a_norm_over_one_pixel_cannot_be_trained() {
    let (mut network, x) = network();
    let x = network.global_average_pool(x).unwrap();
    let x = network.batch_norm("last", x).unwrap();
    let graph = network.finish(x).unwrap();
    let optimizer = Optimizer::Sgd {
        momentum: 0.0,
        nesterov: false,
        weight_decay: 0.0,
    };
    let mode = Mode::Train {
        optimizer,
        label_smoothing: 0.0,
        clip_norm: None,
        keep_gradients: false,
        filter_state: FilterState::Tap,
        examples: smidgen_graph::ExampleMemory::default(),
        micro_batches: 1,
    };
    let error = graph.lower(&Lowering { batch: 1, mode }).unwrap_err();
    assert!(error.to_string().contains("`last`"), "{error}");
    assert!(graph.lower(&Lowering { batch: 2, mode }).is_ok());
    assert!(
        graph
            .lower(&Lowering {
                batch: 1,
                mode: Mode::Evaluate
            })
            .is_ok()
    );
    let mut frozen = graph;
    frozen.freeze("*").unwrap();
    let error = frozen.lower(&Lowering { batch: 2, mode }).unwrap_err();
    assert_eq!(
        error,
        GraphError::NothingTrainable {
            network: "test".to_owned()
        }
    );
}

#[test]
fn batches() {
    let (mut network, x) = network();
    let x = network.global_average_pool(x).unwrap();
    let graph = network.finish(x).unwrap();
    let mode = Mode::Evaluate;
    assert_eq!(
        graph.lower(&Lowering { batch: 0, mode }),
        Err(GraphError::EmptyBatch)
    );
    assert!(graph.lower(&Lowering { batch: 1, mode }).is_ok());
    let mut network = Builder::new("vast", [1 << 20, 1 << 20, 1 << 20]).unwrap();
    let x = network.global_average_pool(network.input()).unwrap();
    let graph = network.finish(x).unwrap();
    let refused = graph.lower(&Lowering {
        batch: u32::MAX,
        mode,
    });
    assert!(matches!(refused, Err(GraphError::TooLarge { .. })));
}
