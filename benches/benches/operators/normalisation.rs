//! Normalisation over batches and channels, softmax, and the attention that is made of it.

use crate::{facts, with_large};
use criterion::Criterion;
use smidgen_benches::{Memory, map_shape, measure_bytes};
use smidgen_gpu::{Source, normalisation_bytes};
use smidgen_ops::batch_norm::StatisticsKind;
use smidgen_ops::{Activation, activation, attention, batch_norm, layer_norm, softmax};
use smidgen_reference as reference;

pub(crate) fn batch_norms(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch norm");
    for map in with_large(reference::batch_norm::cases()) {
        let shape = map_shape(&map);
        let mut memory = Memory::new();
        let [input, output, gradient] = [0; 3].map(|_| memory.values(shape.bytes()));
        let [beta, beta_gradient, gamma_gradient] =
            [0; 3].map(|_| memory.values(shape.vector_bytes()));
        let [gamma, running_mean, running_variance] =
            [0; 3].map(|_| memory.ones(shape.vector_bytes()));
        let normalisation = memory.ones(normalisation_bytes(shape.channels));
        let workspace = batch_norm::statistics_workspace(&shape, facts())
            .max(batch_norm::backward_workspace(&shape, facts()));
        let workspace = memory.values(workspace);
        let regions = batch_norm::Statistics {
            input,
            running_mean,
            running_variance,
            gamma,
            beta,
            normalisation,
            epsilon: 1e-5,
            momentum: 0.1,
        };
        let launches = batch_norm::statistics(&shape, facts(), &regions, workspace);
        measure_bytes(&mut group, "statistics", map.name, &memory, launches);
        let source = Source {
            region: input,
            normalisation: Some(normalisation),
            activation: Activation::Relu,
        };
        let launches = activation::apply(&shape, &source, output);
        measure_bytes(&mut group, "apply with ReLU", map.name, &memory, launches);
        let regions = batch_norm::Backward {
            input,
            normalisation,
            output_gradient: output,
            workspace,
            gamma_gradient,
            beta_gradient,
            input_gradient: gradient,
        };
        let kind = StatisticsKind::Batch;
        let launches = batch_norm::backward(&shape, facts(), Activation::Relu, kind, &regions);
        measure_bytes(
            &mut group,
            "backward with ReLU",
            map.name,
            &memory,
            launches,
        );
    }
}

pub(crate) fn layer_norms(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("layer norm");
    for map in with_large(reference::softmax::cases()) {
        let shape = map_shape(&map);
        let mut memory = Memory::new();
        let [input, output, gradient] = [0; 3].map(|_| memory.values(shape.bytes()));
        let [weight, bias] = [0; 2].map(|_| memory.values(shape.vector_bytes()));
        let parameter_gradients = [0; 2].map(|_| memory.values(shape.vector_bytes()));
        let statistics = memory.ones(layer_norm::statistics_bytes(&shape));
        let regions = layer_norm::LayerNormRegions {
            input,
            weight,
            bias,
            output,
            statistics,
        };
        let launches = layer_norm::forward(&shape, 1e-5, facts(), &regions);
        measure_bytes(&mut group, "forward", map.name, &memory, launches);
        let regions = layer_norm::LayerNormGradientRegions {
            input,
            weight,
            statistics,
            output_gradient: output,
            input_gradient: Some(gradient),
            parameter_gradients: Some(parameter_gradients.into()),
        };
        let launches = layer_norm::backward(&shape, facts(), &regions);
        measure_bytes(&mut group, "backward", map.name, &memory, launches);
    }
}

pub(crate) fn softmaxes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("softmax");
    for map in reference::softmax::cases() {
        let shape = map_shape(&map);
        let mut memory = Memory::new();
        let [input, output, gradient] = [0; 3].map(|_| memory.values(shape.bytes()));
        let launches = softmax::forward(&shape, facts(), input, output);
        measure_bytes(&mut group, "forward", map.name, &memory, launches);
        let launches = softmax::backward(&shape, facts(), output, gradient, input);
        measure_bytes(&mut group, "backward", map.name, &memory, launches);
    }
}

pub(crate) fn attentions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("attention");
    for case in reference::attention::cases() {
        let [batch, heads, tokens, width] =
            [case.batch, case.heads, case.tokens, case.width].map(|size| size as u32);
        let shape = attention::AttentionShape {
            batch,
            heads,
            tokens,
            width,
        };
        let mut memory = Memory::new();
        let [query, key, value, output] = [0; 4].map(|_| memory.values(shape.bytes()));
        let [probabilities, workspace] = [0; 2].map(|_| memory.values(shape.probability_bytes()));
        let regions = attention::AttentionRegions {
            query,
            key,
            value,
            probabilities,
            output,
        };
        let launches = attention::forward(&shape, facts(), &regions);
        measure_bytes(&mut group, "forward", case.name, &memory, launches);
        let [query_gradient, key_gradient, value_gradient] =
            [0; 3].map(|_| memory.values(shape.bytes()));
        let regions = attention::AttentionGradientRegions {
            query,
            key,
            value,
            probabilities,
            output_gradient: output,
            workspace,
            query_gradient,
            key_gradient,
            value_gradient,
        };
        let launches = attention::backward(&shape, facts(), &regions);
        measure_bytes(&mut group, "backward", case.name, &memory, launches);
    }
}
