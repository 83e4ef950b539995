//! Benchmarks of Smidgen
