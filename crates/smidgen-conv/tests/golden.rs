//! Golden vectors made with PyTorch.

use smidgen_conv::{
    ConvolutionShape, Forward, InputGradient, Pass, WeightGradient, forward, input_gradient,
    pack_weight, unpack_weight, weight_gradient, workspace,
};
use smidgen_gpu::testing::{Guarded, device, relative_error};
use smidgen_reference::golden::Golden;
use smidgen_reference::layout::{from_quads, pad_channels, to_quads, widen};

fn shape_of(attributes: &serde_json::Value, input: &[usize], weight: &[usize]) -> ConvolutionShape {
    let size = |at: usize| input.get(at).map_or(1, |size| *size as u32);
    let tap = |at: usize| weight.get(at).map_or(1, |size| *size as u32);
    let number = |name: &str, default| attributes[name].as_u64().unwrap_or(default) as u32;
    ConvolutionShape::new(
        size(0),
        [size(1), size(2), size(3)],
        weight[0] as u32,
        [tap(2), tap(3)],
    )
    .with_stride(number("stride", 1))
    .with_padding(number("padding", 0))
    .with_dilation(number("dilation", 1))
    .with_groups(number("groups", 1))
}

#[test]
fn convolutions_and_linear_layers_agree_with_pytorch() {
    let Some(golden) = Golden::open("operators.safetensors") else {
        return;
    };
    let facts = device(false).facts();
    let mut seen = 0;
    for attributes in golden.cases() {
        if attributes["op"] != "conv2d" && attributes["op"] != "linear" {
            continue;
        }
        seen += 1;
        let name = attributes["name"].as_str().unwrap();
        let tensor = |part: &str| golden.tensor(&format!("{name}.{part}"));
        let ((sizes, x), (weight_sizes, w)) = (tensor("x").unwrap(), tensor("w").unwrap());
        let (dy, b) = (tensor("dy").unwrap().1, tensor("b").map(|(_, b)| b));
        let shape = shape_of(&attributes, &sizes, &weight_sizes);
        let (batch, channels, outputs) = (sizes[0], sizes[1], weight_sizes[0]);
        let input_pixels = (shape.input_height * shape.input_width) as usize;
        let output_pixels = (shape.output_height() * shape.output_width()) as usize;

        let mut memory = Guarded::new();
        let input = memory.input(&to_quads(&x, batch, channels, input_pixels));
        let weight = memory.input(&pack_weight(&shape, &w).unwrap());
        let bias = b.map(|b| memory.input(&pad_channels(&b)));
        let output_gradient = memory.input(&to_quads(&dy, batch, outputs, output_pixels));
        let output = memory.output(shape.output_bytes() as usize / 4);
        let by_input = memory.output(shape.input_bytes() as usize / 4);
        let by_weight = memory.output(shape.weight_bytes() as usize / 4);
        let by_bias = bias.map(|_| memory.output(shape.bias_bytes() as usize / 4));
        let of = |pass| workspace(pass, &shape, facts, None).unwrap();
        let workspace_bytes = of(Pass::Forward)
            .max(of(Pass::InputGradient))
            .max(of(Pass::WeightGradient));
        let workspace = (workspace_bytes > 0).then(|| memory.output(workspace_bytes as usize / 4));
        let mut launches = forward(
            &shape,
            facts,
            None,
            &Forward {
                input: input.into(),
                weight,
                bias,
                output,
                workspace,
            },
        )
        .unwrap();
        launches.extend(
            input_gradient(
                &shape,
                facts,
                None,
                &InputGradient {
                    output_gradient,
                    weight,
                    input_gradient: by_input,
                    accumulate: false,
                    derivative: None,
                    workspace,
                },
            )
            .unwrap(),
        );
        launches.extend(
            weight_gradient(
                &shape,
                facts,
                None,
                &WeightGradient {
                    input: input.into(),
                    output_gradient,
                    weight_gradient: by_weight,
                    bias_gradient: by_bias,
                    workspace,
                },
            )
            .unwrap(),
        );
        let outcome = memory.run_unchecked(&launches).unwrap();

        let compare = |part: &str, actual: Vec<f32>| {
            let expected = widen(&tensor(part).unwrap().1);
            let error = relative_error(&actual, &expected);
            assert!(error <= 1e-5, "{name}.{part} is off by {error:e}");
        };
        compare(
            "y",
            from_quads(&outcome.read(output), batch, outputs, output_pixels),
        );
        compare(
            "dx",
            from_quads(&outcome.read(by_input), batch, channels, input_pixels),
        );
        compare(
            "dw",
            unpack_weight(&shape, &outcome.read(by_weight)).unwrap(),
        );
        if let Some(by_bias) = by_bias {
            compare("db", outcome.read::<f32>(by_bias)[..outputs].to_vec());
        }
    }
    assert!(seen >= 11, "only {seen} golden cases");
}
