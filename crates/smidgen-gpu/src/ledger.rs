use crate::GpuError;

/// What reserved bytes are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Category {
    /// Tensors: parameters, state, stashes, transients, workspace.
    Arena,
    /// Parameters of the kernels.
    Uniform,
    /// Host to device.
    Staging,
    /// Device to host.
    Readback,
    /// Timestamps and what they are resolved into.
    Query,
    /// Tensors in the host's memory, which are no bytes of the device.
    Host,
    /// Anything a caller reserves outside a session.
    Other,
}

impl std::fmt::Display for Category {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Arena => "arena",
            Self::Uniform => "uniforms",
            Self::Staging => "staging",
            Self::Readback => "readback",
            Self::Query => "queries",
            Self::Host => "host",
            Self::Other => "other",
        })
    }
}

/// One reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub label: String,
    /// What it is for.
    pub category: Category,
    /// Its size.
    pub bytes: u64,
}

/// A tensor that stands within a reservation, of which there may be several buffers with offsets that go on from one to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The name of the reservation.
    pub within: String,
    /// That of the tensor.
    pub label: String,
    /// Its first byte.
    pub offset: u64,
    /// Its size, without alignment.
    pub bytes: u64,
}

/// The account of every byte reserved on the device, and of tensors in the host's memory apart. It decides before the driver is asked.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    entries: Vec<Entry>,
    held: Vec<Held>,
    limit: Option<u64>,
    host_limit: Option<u64>,
    sealed: bool,
}

impl Ledger {
    /// From now on the account refuses to go above `limit` bytes.
    pub fn limit_to(&mut self, limit: u64) {
        self.limit = Some(limit);
    }

    /// From now on the account refuses to go above `limit` bytes of the host's memory.
    pub fn limit_host_to(&mut self, limit: u64) {
        self.host_limit = Some(limit);
    }

    /// Enters a reservation.
    ///
    /// # Errors
    /// [`GpuError::OverBudget`] above the limit, [`GpuError::Sealed`] after [`seal`](Self::seal); nothing is entered then.
    pub fn reserve(&mut self, label: &str, category: Category, bytes: u64) -> Result<(), GpuError> {
        if self.sealed {
            return Err(GpuError::Sealed {
                label: label.into(),
            });
        }
        let (reserved, limit) = match category {
            Category::Host => (self.reserved_in(Category::Host), self.host_limit),
            _ => (self.reserved(), self.limit),
        };
        if let Some(limit) = limit
            && reserved.saturating_add(bytes) > limit
        {
            return Err(GpuError::OverBudget {
                label: label.into(),
                bytes,
                reserved,
                limit,
            });
        }
        self.entries.push(Entry {
            label: label.into(),
            category,
            bytes,
        });
        Ok(())
    }

    /// Notes what a reservation holds, where that is known; nothing more is reserved.
    pub fn hold(&mut self, held: Held) {
        self.held.push(held);
    }

    /// What reservations are known to hold. A session notes the stashes of a training step in its arena.
    #[must_use]
    pub fn held(&self) -> &[Held] {
        &self.held
    }

    /// Takes back the latest reservation of that name, whose buffer is gone.
    pub fn release(&mut self, label: &str) {
        if let Some(at) = self.entries.iter().rposition(|entry| entry.label == label) {
            self.entries.remove(at);
            if !self.entries.iter().any(|entry| entry.label == label) {
                self.held.retain(|held| held.within != label);
            }
        }
    }

    /// From now on nothing more may be reserved.
    pub fn seal(&mut self) {
        self.sealed = true;
    }

    /// The limit, in bytes.
    #[must_use]
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// The sum of all reservations on the device, in bytes.
    #[must_use]
    pub fn reserved(&self) -> u64 {
        let all: u64 = self.entries.iter().map(|entry| entry.bytes).sum();
        all - self.reserved_in(Category::Host)
    }

    /// The sum of the reservations of one category, in bytes.
    #[must_use]
    pub fn reserved_in(&self, category: Category) -> u64 {
        let entries = self.entries.iter();
        let of_category = entries.filter(|entry| entry.category == category);
        of_category.map(|entry| entry.bytes).sum()
    }

    /// All reservations, in the order they were made.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_above_the_limit_and_enters_nothing() {
        let mut ledger = Ledger::default();
        ledger.limit_to(100);
        ledger.reserve("a", Category::Arena, 60).unwrap();
        let error = ledger.reserve("b", Category::Other, 41).unwrap_err();
        assert!(error.to_string().contains("at least 101"), "{error}");
        assert_eq!(ledger.reserved(), 60);
        ledger.reserve("b", Category::Other, 40).unwrap();
        ledger.hold(Held {
            within: "b".into(),
            label: "tensor".into(),
            offset: 0,
            bytes: 8,
        });
        assert_eq!((ledger.reserved(), ledger.held().len()), (100, 1));
        ledger.release("b");
        assert_eq!((ledger.reserved(), ledger.held().len()), (60, 0));
        ledger.reserve("b", Category::Other, 40).unwrap();
        ledger.limit_host_to(50);
        ledger.reserve("c", Category::Host, 50).unwrap();
        assert!(ledger.reserve("d", Category::Host, 1).is_err());
        assert_eq!(
            [ledger.reserved(), ledger.reserved_in(Category::Host)],
            [100, 50]
        );
        ledger.seal();
        assert!(matches!(
            ledger.reserve("c", Category::Other, 0),
            Err(GpuError::Sealed { .. })
        ));
    }
}
