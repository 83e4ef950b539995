//! Whole-system tests of Smidgen
