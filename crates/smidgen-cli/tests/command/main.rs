//! Tests of the `smidgen` command as a whole: what it prints, what it refuses, and how runs go on.
#![cfg(unix)]

mod bad_files;
mod bad_input;
mod bench;
mod output;
mod profile;
mod resume;
mod sparse;
mod support;
