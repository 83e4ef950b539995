//! Programs are executed, and the gradients they leave compared with finite differences of the loss.

mod interpreter;
mod random;

use interpreter::Interpreter;
use random::{Random, close, random_graph, same};
use smidgen_graph::forms::{Code, Codes, Form, FormError, Forms, Outline};
use smidgen_graph::{
    Activation, Builder, FilterState, Graph, Layout, Lowering, MapShape, Mode, OperationKind,
    Optimizer, Program, Role, Value, ValueId,
};

const BATCH: u32 = 3;
const STEP: f64 = 1e-5;

fn train(optimizer: Optimizer, clip_norm: Option<f32>) -> Lowering {
    let mode = Mode::Train {
        optimizer,
        label_smoothing: 0.1,
        clip_norm,
        keep_gradients: true,
        filter_state: FilterState::Tap,
        examples: smidgen_graph::ExampleMemory::default(),
        micro_batches: 1,
    };
    Lowering { batch: BATCH, mode }
}

const SGD: Optimizer = Optimizer::Sgd {
    momentum: 0.9,
    nesterov: false,
    weight_decay: 0.0,
};

/// Parameters, pictures and labels, the same for every program of a graph.
fn start(program: &Program) -> Interpreter<'_> {
    let mut random = Random(7);
    let mut interpreter = Interpreter::new(program);
    for (index, value) in program.values.iter().enumerate() {
        let count = match (value.role, value.layout) {
            (Role::Parameter | Role::Running, Layout::Vector { channels }) => u64::from(channels),
            (Role::Parameter, Layout::Weight(attributes)) => {
                let inputs = attributes.input_channels / attributes.groups;
                u64::from(attributes.output_channels * inputs) * attributes.taps()
            }
            (Role::Images, Layout::Map(shape)) => shape.elements(),
            _ => continue,
        };
        let centre = if value.name.contains("running_var") {
            1.5
        } else {
            0.0
        };
        interpreter.set(
            ValueId(index),
            (0..count).map(|_| centre + random.unit()).collect(),
        );
    }
    let Layout::Map(logits) = program.value(program.logits).layout else {
        panic!("logits are a map")
    };
    interpreter.labels = (0..BATCH)
        .map(|_| random.below(logits.channels as usize))
        .collect();
    interpreter
}

fn loss(program: &Program, parameter: ValueId, element: usize, change: f64) -> f64 {
    let mut interpreter = start(program);
    let mut values = interpreter.get(parameter).to_vec();
    values[element] += change;
    interpreter.set(parameter, values);
    interpreter.run();
    interpreter.loss
}

/// Compares a few elements of every gradient with finite differences, and returns how many gradients there were.
fn check(graph: &Graph, program: &Program) -> usize {
    let mut trained = start(program);
    trained.run();
    for parameter in graph.parameters() {
        let id = program
            .find(&parameter.name)
            .expect("every parameter is a value");
        let name = format!("gradient of {}", parameter.name);
        let gradient = program.find(&name).filter(|id| program.kept.contains(id));
        assert_eq!(gradient.is_some(), parameter.trainable, "{name}");
        let unchanged = start(program).get(id) == trained.get(id);
        assert!(
            parameter.trainable || unchanged,
            "{} is frozen and changed",
            parameter.name
        );
        let Some(gradient) = gradient else { continue };
        let gradient = trained.get(gradient);
        assert_eq!(gradient.len() as u64, parameter.elements());
        let steps = gradient.len().div_ceil(3);
        for element in (0..gradient.len()).step_by(steps) {
            let numeric = (loss(program, id, element, STEP) - loss(program, id, element, -STEP))
                / (2.0 * STEP);
            let found = gradient[element];
            assert!(
                (found - numeric).abs() <= 1e-6 + 1e-5 * numeric.abs().max(found.abs()),
                "{}: {name}[{element}] is {found}, and {numeric} by finite differences",
                graph.name()
            );
        }
    }
    program.kept.len()
}

fn count(program: &Program, which: fn(&OperationKind) -> bool) -> usize {
    program
        .operations
        .iter()
        .filter(|operation| which(&operation.kind))
        .count()
}

fn copies(program: &Program) -> usize {
    count(program, |kind| matches!(kind, OperationKind::Copy { .. }))
}

fn sums(program: &Program) -> usize {
    count(program, |kind| {
        matches!(kind, OperationKind::Accumulate { .. })
    })
}

#[test]
fn a_residual_block_copies_and_masks_nothing_in_a_pass_of_its_own() {
    let mut network = Builder::new("block", [3, 5, 4]).unwrap();
    let x = network.input();
    let x = network.convolution("stem", x, same(4)).unwrap();
    let input = network.relu(x).unwrap();
    let x = network
        .convolution("conv1", input, same(4).without_bias())
        .unwrap();
    let x = network.batch_norm("bn1", x).unwrap();
    let x = network.relu(x).unwrap();
    let x = network
        .convolution("conv2", x, same(4).without_bias())
        .unwrap();
    let x = network.batch_norm("bn2", x).unwrap();
    let x = network.add(x, input).unwrap();
    let x = network.relu(x).unwrap();
    let graph = close(network, &[x]);
    let program = graph.lower(&train(SGD, None)).unwrap();
    assert_eq!((copies(&program), sums(&program)), (0, 0));
    let added = count(&program, |kind| {
        matches!(
            kind,
            OperationKind::ConvolutionInputGradient {
                accumulate: true,
                ..
            }
        )
    });
    assert_eq!(added, 1, "conv1 adds its input gradient to the shortcut's");
    let masks = count(&program, |kind| {
        matches!(kind, OperationKind::ActivationBackward { .. })
    });
    assert_eq!(
        masks, 0,
        "the convolution behind an activation completes its gradient, and masks it"
    );
    assert_eq!(check(&graph, &program), 10);
}

#[test]
fn a_value_added_to_itself_counts_twice() {
    let mut network = Builder::new("double", [2, 3, 3]).unwrap();
    let x = network.input();
    let x = network.convolution("conv", x, same(3)).unwrap();
    let x = network.add(x, x).unwrap();
    let x = network.add(x, x).unwrap();
    let x = network.activation(x, Activation::Gelu).unwrap();
    let x = network.concat(&[x, x]).unwrap();
    let graph = close(network, &[x]);
    check(&graph, &graph.lower(&train(SGD, None)).unwrap());
}

#[test]
fn a_convolution_beside_its_own_input_does_not_write_what_it_reads() {
    let mut network = Builder::new("beside", [2, 3, 3]).unwrap();
    let x = network.input();
    let x = network.convolution("first", x, same(3)).unwrap();
    let y = network.convolution("second", x, same(3)).unwrap();
    let x = network.add(y, x).unwrap();
    let graph = close(network, &[x]);
    check(&graph, &graph.lower(&train(SGD, None)).unwrap());
}

#[test]
fn sums_that_have_a_side_in_common() {
    let mut network = Builder::new("sums", [2, 3, 3]).unwrap();
    let input = network.input();
    let mut convolved = |name: &str| network.convolution(name, input, same(3)).unwrap();
    let (a, b, c) = (convolved("a"), convolved("b"), convolved("c"));
    let first = network.add(a, c).unwrap();
    // Differentiated before the other: when that one's gradient comes to `a`, the one there is still that of `b` too.
    let second = network.add(a, b).unwrap();
    let graph = close(network, &[first, second]);
    check(&graph, &graph.lower(&train(SGD, None)).unwrap());
}

#[test]
fn shortcuts_of_option_a() {
    let mut network = Builder::new("option a", [2, 5, 5]).unwrap();
    let x = network.input();
    let input = network.convolution("stem", x, same(3)).unwrap();
    let x = network
        .convolution("conv1", input, same(6).stride(2))
        .unwrap();
    let x = network.batch_norm("bn1", x).unwrap();
    let shortcut = network.shortcut(input, 2, 6).unwrap();
    let x = network.add(x, shortcut).unwrap();
    let x = network.relu(x).unwrap();
    let graph = close(network, &[x]);
    let program = graph.lower(&train(SGD, None)).unwrap();
    assert_eq!(
        copies(&program),
        0,
        "the shortcut has read the sum's gradient before the norm changes it"
    );
    check(&graph, &program);
}

#[test]
fn random_networks() {
    let mut copied = 0;
    for seed in 0..60 {
        let graph = random_graph(seed);
        let clip = (seed % 4 == 3).then_some(1.0);
        let program = graph.lower(&train(SGD, clip)).unwrap();
        copied += copies(&program);
        check(&graph, &program);
        consistent(&program);
    }
    assert!(copied > 0, "some of them share gradients");
}

#[test]
fn fused_gradients_are_those_of_two_operations() {
    let mut masked = 0;
    for seed in 0..20 {
        let graph = random_graph(seed);
        let program = graph.lower(&train(SGD, None)).unwrap();
        let pairs = program.gradient_pairs();
        assert!(!pairs.is_empty());
        let fused = program.fused(&pairs);
        assert_eq!(
            fused.operations.len() + pairs.len(),
            program.operations.len()
        );
        assert!(fused.gradient_pairs().is_empty());
        assert_eq!(program.fused(&[]), program);
        masked += count(&fused, |kind| {
            matches!(
                kind,
                OperationKind::ConvolutionBackward {
                    derivative: true,
                    ..
                }
            )
        });
        consistent(&fused);
        check(&graph, &fused);
    }
    assert!(masked > 0);
}

#[test]
fn forms_change_no_bit_but_by_their_codes() {
    let (mut again, mut coded, mut bounded, mut sums) = (0, 0, 0, [0, 0]);
    for seed in 0..60 {
        let mut graph = random_graph(seed);
        if seed % 3 < 2 {
            let layers = graph.trained_convolutions().into_iter().map(str::to_owned);
            for layer in layers.collect::<Vec<_>>() {
                // Grouped ones stay exact.
                let _ = graph.filter(&layer, 2);
            }
        }
        let clip = (seed % 4 == 3).then_some(1.0);
        let program = graph.lower(&train(SGD, clip)).unwrap();
        let outline = Outline::new(&program).with_codes(&program, &Quarter);
        let mut random = Random(seed);
        let mut forms = Forms::new();
        for stash in outline.stashes() {
            // Every code in its turn.
            let turn = |codes: &[(Code, u64)]| {
                let (code, _) = codes.get(seed as usize % codes.len().max(1))?;
                Some(*code)
            };
            let coded = turn(&stash.codes).map(Form::Coded);
            let masked = turn(&stash.masked).map(Form::Masked);
            // Every other network in many codes, every other mostly made again.
            let form = coded
                .or(masked)
                .filter(|_| random.below(3) == 0 || seed % 2 == 1);
            if let Some(form) = form {
                forms.insert(stash.value, form);
            } else if stash.repeatable && random.below(3) > 0 && seed % 2 == 0 {
                forms.insert(stash.value, Form::Recomputed);
            }
        }
        for (value, form) in &forms {
            if program.value(*value).name.ends_with("patch_sums") {
                sums[usize::from(*form == Form::Recomputed)] += 1;
            }
        }
        // What is made again is not made of what was coded: there, the code gives way.
        let other = loop {
            match outline.apply(&program, &forms) {
                Ok(other) => break other,
                Err(FormError::NotRepeatable { value, .. }) => {
                    forms.remove(&program.find(&value).unwrap()).unwrap();
                }
                Err(error) => panic!("{error}"),
            }
        };
        consistent(&other);
        coded += count(&other, |kind| matches!(kind, OperationKind::Encode { .. }));
        let bounds = |value: &&Value| value.name.starts_with("bound of ");
        bounded += other.values.iter().filter(bounds).count();
        let errors = |kind: &OperationKind| match kind {
            OperationKind::Encode { code, bound, .. } => {
                assert_eq!(code.is_bounded(), bound.is_some());
                bound.is_some()
            }
            _ => false,
        };
        assert_eq!(
            other.values.iter().filter(bounds).count(),
            count(&other, errors)
        );
        again += other.operations.len() - program.operations.len();
        let (mut plain, mut rewritten) = (start(&program), start(&other));
        plain.run();
        rewritten.run();
        assert_eq!(plain.loss.to_bits(), rewritten.loss.to_bits());
        for &gradient in &program.kept {
            assert_eq!(plain.get(gradient), rewritten.get(gradient), "seed {seed}");
        }
    }
    assert!(again > 200, "{again} operations ran twice, or coded");
    assert!(coded > 20, "{coded} values were coded");
    assert!(bounded > 5, "{bounded} of them within a bound");
    assert!(
        sums[0] > 20 && sums[1] > 10,
        "{sums:?} patch sums were coded, made again"
    );
}

#[test]
fn slopes_held_apart_change_no_bit() {
    // Ten normalisations with a ReLU behind them, each read by a convolution and by its own backward; of ReLU6, 34, and one that only a pool reads.
    slopes_held_apart("resnet20", 20);
    slopes_held_apart("mobilenet_v2", 69);
}

fn slopes_held_apart(model: &str, expected: usize) {
    let graph = smidgen_graph::zoo::build(model, 4, [3, 8, 8]).unwrap();
    let program = graph.lower(&train(SGD, None)).unwrap();
    let outline = Outline::new(&program).with_codes(&program, &Quarter);
    let mut forms = Forms::new();
    for stash in outline.stashes() {
        let coded = stash.codes.first().map(|(code, _)| Form::Coded(*code));
        let masked = stash.masked.first().map(|(code, _)| Form::Masked(*code));
        forms.extend(coded.or(masked).map(|form| (stash.value, form)));
    }
    let other = outline.apply(&program, &forms).unwrap();
    consistent(&other);
    let slopes = count(&other, |kind| match kind {
        OperationKind::ConvolutionWeightGradient { coded, .. }
        | OperationKind::BatchNormBackward { coded, .. } => {
            coded.is_some_and(|coded| coded.slope.is_some())
        }
        _ => false,
    });
    assert_eq!(slopes, expected, "{model}");
    // Those who read what is masked decode as they load: of it no copy stands anywhere.
    let copied = |(value, form): (&ValueId, &Form)| {
        let copy = format!("{} again", program.value(*value).name);
        matches!(form, Form::Masked(_)) && other.find(&copy).is_some()
    };
    assert!(!forms.iter().any(copied), "{model}");
    let (mut plain, mut rewritten) = (start(&program), start(&other));
    plain.run();
    rewritten.run();
    for &gradient in &program.kept {
        assert_eq!(plain.get(gradient), rewritten.get(gradient));
    }
}

#[test]
fn what_waits_on_the_host_changes_no_bit() {
    let mut waiting = 0;
    for seed in 0..30 {
        let program = random_graph(seed).lower(&train(SGD, None)).unwrap();
        let outline = Outline::new(&program).with_host(&program, u64::MAX, 1, u64::MAX);
        let mut random = Random(seed);
        let mut forms = Forms::new();
        for stash in outline.stashes() {
            // What is made again may be made of what waits on the host.
            let form = match random.below(3) {
                0 if stash.offloadable => Form::Offloaded,
                1 if stash.repeatable => Form::Recomputed,
                _ => continue,
            };
            forms.insert(stash.value, form);
        }
        let other = loop {
            match outline.apply(&program, &forms) {
                Ok(other) => break other,
                Err(FormError::NotRepeatable { value, .. }) => {
                    forms.remove(&program.find(&value).unwrap()).unwrap();
                }
                Err(error) => panic!("{error}"),
            }
        };
        consistent(&other);
        let on_host = |value: &&Value| value.role == Role::Offloaded;
        waiting += other.values.iter().filter(on_host).count();
        let (mut plain, mut rewritten) = (start(&program), start(&other));
        plain.run();
        rewritten.run();
        for &gradient in &program.kept {
            assert_eq!(plain.get(gradient), rewritten.get(gradient), "seed {seed}");
        }
    }
    assert!(waiting > 30, "{waiting}");
    // Nothing without being asked, and no more than there is room for.
    let program = random_graph(1).lower(&train(SGD, None)).unwrap();
    let outline = Outline::new(&program);
    let first = outline.stashes()[0].value;
    let refused = outline.schedule(&Forms::from([(first, Form::Offloaded)]));
    assert!(matches!(refused, Err(FormError::NotOffloadable { .. })));
    let open = |outline: &Outline| {
        let open = outline.stashes().iter().filter(|stash| stash.offloadable);
        open.map(|stash| stash.bytes).collect::<Vec<u64>>()
    };
    let outline = outline.with_host(&program, 1000, 256, u64::MAX);
    assert!(open(&outline).iter().sum::<u64>() <= 1000);
    // Where one buffer ends, what is left of it is lost.
    let all = outline.with_host(&program, u64::MAX, 1, u64::MAX);
    let maps = open(&all);
    let (largest, whole) = (maps.iter().max().unwrap(), maps.iter().sum::<u64>());
    let cut = all.with_host(&program, whole, 1, largest + 1);
    assert!(open(&cut).len() < maps.len());
}

#[test]
fn maps_in_slices_change_no_bit() {
    let graph = smidgen_graph::zoo::build("mobilenet_v2", 4, [3, 8, 8]).unwrap();
    for (clip, others) in [(None, false), (Some(1.0), false), (None, true)] {
        let program = graph.lower(&train(SGD, clip)).unwrap();
        let outline = Outline::new(&program).with_slices(&program, &|_| Some(64));
        let mut forms = Forms::new();
        for (at, stash) in outline.stashes().iter().enumerate() {
            let again = (others && stash.repeatable).then_some(Form::Recomputed);
            let slices = stash.slices.get(at % stash.slices.len().max(1));
            let sliced = slices.map(|(count, _)| Form::Sliced(*count));
            forms.extend(sliced.or(again).map(|form| (stash.value, form)));
        }
        let other = loop {
            match outline.apply(&program, &forms) {
                Ok(other) => break other,
                Err(FormError::NotRepeatable { value, .. }) => {
                    forms.remove(&program.find(&value).unwrap()).unwrap();
                }
                Err(error) => panic!("{error}"),
            }
        };
        consistent(&other);
        let slices = count(&other, |kind| {
            matches!(kind, OperationKind::InSlices { .. })
        });
        // What a depthwise convolution reads, the stem's map too; and what only a normalisation reads: before a sum and before the pool.
        assert!(slices >= 17 + 10, "{slices}");
        let (mut plain, mut rewritten) = (start(&program), start(&other));
        plain.run();
        rewritten.run();
        for &gradient in &program.kept {
            assert_eq!(plain.get(gradient), rewritten.get(gradient));
        }
    }
}

#[test]
fn an_impossible_slice_is_refused() {
    let graph = smidgen_graph::zoo::build("mobilenet_v2", 4, [3, 8, 8]).unwrap();
    let program = graph.lower(&train(SGD, None)).unwrap();
    let outline = Outline::new(&program).with_slices(&program, &|_| Some(64));
    let refused = |name: &str, slices| {
        let forms = Forms::from([(program.find(name).unwrap(), Form::Sliced(slices))]);
        outline.apply(&program, &forms).unwrap_err().to_string()
    };
    let error = refused("features.2.conv.0.0", 5);
    assert!(
        error.contains("5 slices") && error.contains("2 or 4 or 8 or 24"),
        "{error}"
    );
    // The convolution behind it reads all of its channels.
    let error = refused("features.2.conv.1.0", 2);
    assert!(error.contains("needs it whole"), "{error}");
}

/// Codes of a quarter of the bytes.
struct Quarter;

impl Codes for Quarter {
    fn bytes(&self, _: Code, shape: MapShape) -> Option<u64> {
        Some(Layout::Map(shape).bytes() / 4)
    }
}

#[test]
fn a_form_for_what_is_no_stash_is_refused() {
    let program = (random_graph(1).lower(&train(SGD, None))).unwrap();
    let outline = Outline::new(&program);
    let forms = Forms::from([(program.logits, Form::Recomputed)]);
    let error = outline.apply(&program, &forms).unwrap_err();
    assert!(error.to_string().contains("is not kept"), "{error}");
    // The pictures are one: no operation makes them.
    for stash in outline.stashes().iter().filter(|stash| !stash.repeatable) {
        let forms = Forms::from([(stash.value, Form::Recomputed)]);
        let error = outline.apply(&program, &forms).unwrap_err();
        assert!(error.to_string().contains("hold it whole"), "{error}");
    }
}

/// What is read was written; nothing is written twice at one place; parameters are not read after their update.
fn consistent(program: &Program) {
    let mut written: Vec<bool> = (program.values.iter())
        .map(|value| {
            value.role.is_persistent() || matches!(value.role, Role::Images | Role::Labels)
        })
        .collect();
    let mut updated = Vec::new();
    for operation in &program.operations {
        for id in operation.reads() {
            assert!(
                written[id.0],
                "{} reads {}",
                operation.layer,
                program.value(id).name
            );
            assert!(
                !updated.contains(&id),
                "{} is read after its update",
                program.value(id).name
            );
        }
        let writes = operation.writes();
        for (place, id) in writes.iter().enumerate() {
            assert!(!writes[..place].contains(id));
            written[id.0] = true;
        }
        for (id, _) in operation.needs() {
            assert!(matches!(
                program.value(id).role,
                Role::Activation | Role::Statistics | Role::Images
            ));
        }
        if let OperationKind::Update { parameter, .. } = operation.kind {
            updated.push(parameter);
        }
    }
    let mut names: Vec<&str> = program
        .values
        .iter()
        .map(|value| value.name.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), program.values.len());
}

#[test]
fn every_network_of_the_zoo_is_consistent() {
    let adam = Optimizer::Adam {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.0,
        decoupled: true,
    };
    for name in smidgen_graph::zoo::NAMES {
        let graph = smidgen_graph::zoo::build(name, 10, [3, 64, 64]).unwrap();
        for lowering in [
            train(SGD, None),
            train(adam, Some(1.0)),
            Lowering {
                batch: 2,
                mode: Mode::Evaluate,
            },
        ] {
            consistent(&graph.lower(&lowering).unwrap());
        }
    }
}

#[test]
fn evaluation_reads_running_statistics_only() {
    let graph = random_graph(2);
    let program = graph
        .lower(&Lowering {
            batch: BATCH,
            mode: Mode::Evaluate,
        })
        .unwrap();
    let mut interpreter = start(&program);
    interpreter.run();
    assert!(interpreter.loss.is_finite());
    let learns = program.operations.iter().any(|operation| {
        matches!(
            operation.kind,
            OperationKind::BatchNormStatistics { .. } | OperationKind::Dropout { .. }
        ) || matches!(
            operation.kind,
            OperationKind::CrossEntropy {
                logit_gradient: Some(_),
                ..
            }
        )
    });
    assert!(!learns && program.kept.is_empty());
}
