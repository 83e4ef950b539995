use super::PlanFile;
use crate::Bytes;
use smidgen_gpu::Device;
use smidgen_graph::{ExampleMemory, FilterState, Optimizer, UNCLIPPED};

/// What a session is made for.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionOptions {
    /// Images of a step.
    pub batch: u32,
    /// How to train; `None` for a session that only evaluates.
    pub training: Option<Training>,
    /// Bytes the session may reserve on the device, everything counted; `None` for no limit.
    pub budget: Option<Bytes>,
}

/// How the parameters are updated.
#[derive(Debug, Clone, PartialEq)]
pub struct Training {
    /// The optimiser and its constants; the learning rate is given with every step.
    pub optimizer: Optimizer,
    /// Share of the target that is spread over all classes.
    pub label_smoothing: f32,
    /// The global norm gradients are clipped to.
    pub clip_norm: Option<f32>,
    /// Keep every parameter gradient until the end of the step, so that [`Session::read`](crate::Session::read) can see it; costs their bytes.
    pub keep_gradients: bool,
    /// How gradient and state of filtered weights are held. `None`: once a pair of channels under a budget, where nothing stands against
    /// it ([`FilterState::against_pairs`]) and gradients are not kept; otherwise for every tap.
    pub filter_state: Option<FilterState>,
    /// How lossy stashes may be held to meet a budget: the mean over stashes of the squared error by the squared value. 0, the default,
    /// for not at all: then a budget changes no bit of what is computed. 0.016 is what 4 bits bring.
    pub quality: f64,
    /// Bytes of the host's memory that may hold stashes, where the device has memory of its own and its kernels reach the host's; `None`, the
    /// default, for none.
    pub host_budget: Option<Bytes>,
    /// Hold maps and their gradients in f16 between operations: half the bytes. Never exact: each number is rounded as it is written. The gradient of the
    /// loss is multiplied by a [loss scale](crate::LossScale) that the device adapts; all parameter gradients are held to the end of the step.
    pub half_maps: bool,
    /// What grows where the masks of sparse layers change.
    pub growth: Growth,
    /// What is kept of single training examples, such as how often each was forgotten.
    pub examples: ExampleMemory,
    /// Images that a step computes at once, a divisor of the batch: it runs once for each micro-batch and sums the gradients before its one
    /// update, which is that of the mean loss over the whole batch. Batch norms take their statistics over a micro-batch. `None` for the
    /// whole batch, or what the plan says.
    pub micro_batch: Option<u32>,
    /// How stashes are held, written down before; `None` leaves it to the planner.
    pub plan: Option<PlanFile>,
}

/// Which blocks grow where the masks of sparse layers change, of those that were not live before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Growth {
    /// Any, as in SET and MEST; between two steps.
    #[default]
    Random,
    /// Those whose gradient has the largest norm on the batch of the next step, as in RigL (Evci et al., ICML 2020). That step changes
    /// masks instead of parameters. The dense gradient of one layer at a time is a temporary that plan and budget know.
    Gradient,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            optimizer: Optimizer::Sgd {
                momentum: 0.9,
                nesterov: false,
                weight_decay: 1e-4,
            },
            label_smoothing: 0.0,
            clip_norm: None,
            keep_gradients: false,
            filter_state: None,
            quality: 0.0,
            host_budget: None,
            half_maps: false,
            growth: Growth::Random,
            examples: ExampleMemory::default(),
            micro_batch: None,
            plan: None,
        }
    }
}

impl SessionOptions {
    /// Has the ledger of a device refuse what the budgets do not allow.
    pub(crate) fn limit(&self, device: &Device) {
        let mut ledger = device.ledger();
        if let Some(budget) = self.budget {
            ledger.limit_to(budget.0);
        }
        if let Some(budget) = self.host_budget() {
            ledger.limit_host_to(budget.0);
        }
    }

    pub(crate) fn host_budget(&self) -> Option<Bytes> {
        self.training.as_ref()?.host_budget
    }

    /// The same with it settled how gradient and state of filtered weights are held, so that it does not depend on what becomes of the budget.
    pub(crate) fn settling_filter_state(&self, under_budget: bool) -> Self {
        let mut options = self.clone();
        if let Some(training) = &mut options.training {
            training.filter_state = Some(training.filter_state(under_budget));
        }
        options
    }
}

impl Training {
    /// The norm that all gradients together have to be known for.
    pub(crate) fn largest_norm(&self) -> Option<f32> {
        self.clip_norm.or(self.half_maps.then_some(UNCLIPPED))
    }

    /// How gradient and state of filtered weights are held, with or without a budget.
    pub(crate) fn filter_state(&self, under_budget: bool) -> FilterState {
        self.filter_state.unwrap_or_else(|| {
            let against = FilterState::against_pairs(&self.optimizer, self.largest_norm());
            if under_budget && against.is_none() && !self.keep_gradients {
                FilterState::Pair
            } else {
                FilterState::Tap
            }
        })
    }
}

/// What differs from step to step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepOptions {
    /// Number of the step, from 0.
    pub step: u64,
    /// Step size of the optimiser.
    pub learning_rate: f32,
    /// Seed of dropout in this step.
    pub seed: u32,
}
