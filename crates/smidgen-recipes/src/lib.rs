//! Published training methods, each a file, written as choices over Smidgen's kernels and host.
//!
//! ```no_run
//! use smidgen::{Session, Sparsity, Trainer, TrainerOptions, zoo};
//! use smidgen_recipes::{Mest, MestOptions};
//! # fn example(device: smidgen::gpu::Device, options: &smidgen::SessionOptions) -> Result<(), smidgen::Error> {
//! let mest = MestOptions::elastic(0.1, 30);
//! let mut graph = zoo::build("resnet20", 10, [3, 32, 32])?;
//! graph.sparsify(&Sparsity { most: mest.most(), ..Sparsity::uniform(0.1) })?;
//! let recipe = Mest::new(&graph, &mest)?;
//! let mut session = Session::new(device, &graph, options, 1)?;
//! let data: smidgen::data::DataSource = "shapes".parse()?;
//! let train = data.open(smidgen::data::Split::Train)?;
//! let trainer = Trainer::new(&mut session, train, None, TrainerOptions { epochs: 30, ..Default::default() })?;
//! trainer.with_recipe(recipe)?.run(|_| std::ops::ControlFlow::Continue(()))?;
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]

mod mest;
mod removal;
mod sparcl;

pub use mest::{Mest, MestOptions, StageNeeds};
pub use removal::{Choice, Removal, RemovalOptions};
pub use sparcl::{DataRemoval, GradientMask, Masking, Pick, Sparcl, SparclOptions, TaskReport};
