use super::Remaining;
use crate::{Error, Session};

/// A published method that acts between epochs.
pub trait Recipe {
    /// Called before the first step of every epoch, and not again where a run is resumed within one. What it does must follow from the
    /// epoch and the session alone, so that a resumed run goes on bit for bit.
    ///
    /// # Errors
    /// What the session refuses.
    fn before_epoch(&mut self, session: &mut Session, epoch: u64) -> Result<(), Error>;

    /// Called once, when a recipe joins a run: whether the session is one that it can act on.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check(&self, session: &mut Session) -> Result<(), Error> {
        let _ = session;
        Ok(())
    }

    /// From which epochs on a training set of so many examples has fewer: before each of them, the recipe marks what is removed in the
    /// session's [example records](Session::example_records). Known before the run, so that its steps are.
    fn removals(&self, examples: usize) -> Vec<Remaining> {
        let _ = examples;
        Vec::new()
    }
}
