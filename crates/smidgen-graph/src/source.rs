use crate::attributes::Activation;
use crate::operation::Content;
use crate::program::ValueId;
use serde::{Deserialize, Serialize};

/// A forward value as an operation reads it: `activation(scale * value + shift)`, computed while it is loaded. The normalised and
/// activated map is no value of the program and stands nowhere in memory; what is stashed is the value that was normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Source {
    /// What stands in memory.
    pub value: ValueId,
    /// Scale, shift, mean and inverse deviation of every channel, as a batch norm leaves them.
    pub normalisation: Option<ValueId>,
    /// Applied last.
    pub activation: Activation,
}

impl From<ValueId> for Source {
    /// The value as it stands in memory.
    fn from(value: ValueId) -> Self {
        Self {
            value,
            normalisation: None,
            activation: Activation::Identity,
        }
    }
}

impl Source {
    /// Whether the value is read as it stands in memory.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self::from(self.value)
    }

    /// The values that stand in memory.
    pub fn values(&self) -> impl Iterator<Item = ValueId> + use<> {
        std::iter::once(self.value).chain(self.normalisation)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut ValueId> {
        std::iter::once(&mut self.value).chain(&mut self.normalisation)
    }

    /// What an operation of the backward pass that is linear in what it reads must have again.
    pub(crate) fn needs(&self) -> Vec<(ValueId, Content)> {
        let content = match self.activation {
            Activation::Identity => Content::Linear,
            // The value also tells where the activation was flat, and this must not change.
            _ => Content::Exact,
        };
        let mut needs = vec![(self.value, content)];
        needs.extend(self.normalisation.map(|id| (id, Content::Exact)));
        needs
    }
}
