//! Slow, obvious, double-precision twins of the kernels of Smidgen.
//!
//! Plain loops over NCHW arrays of `f64` that anyone can check against a textbook, the tables of cases that drive correctness,
//! gradient checks and benchmarks, the conversion between NCHW and the layouts of the device, and a reader of golden vectors.
//! For tests and benchmarks: functions panic on inconsistent input.
#![deny(missing_docs)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub mod activation;
pub mod attention;
pub mod batch_norm;
pub mod convolution;
pub mod dropout;
pub mod elementwise;
pub mod golden;
pub mod gradient_filter;
pub mod layer_norm;
pub mod layout;
pub mod listed;
pub mod loss;
pub mod numbers;
pub mod optimizer;
pub mod pool;
pub mod rehearsal;
pub mod resize;
pub mod selection;
pub mod softmax;
pub mod stash;
