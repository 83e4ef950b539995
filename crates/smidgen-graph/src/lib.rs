//! Network graphs, shape inference, differentiation and a model zoo, without a GPU
