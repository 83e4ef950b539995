//! SGD, Adam, AdamW and clipping by the norm, element by element, with PyTorch's conventions.

/// An optimiser and its constants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// Stochastic gradient descent, dampening 0.
    Sgd {
        /// Factor of the momentum.
        momentum: f64,
        /// Nesterov's form.
        nesterov: bool,
        /// Added to the gradient.
        weight_decay: f64,
    },
    /// Adam, or AdamW where `decoupled`.
    Adam {
        /// Decay of mean and square.
        betas: (f64, f64),
        /// Added to the root.
        epsilon: f64,
        /// Strength of the decay.
        weight_decay: f64,
        /// Whether the decay acts on the parameter itself.
        decoupled: bool,
    },
}

/// An optimiser with a name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OptimizerCase {
    /// What is special about it.
    pub name: &'static str,
    /// The rule.
    pub rule: Rule,
}

/// Numbers of elements to try: within one quad, around whole quads, more than one workgroup.
pub const COUNTS: [usize; 8] = [1, 2, 3, 4, 5, 1023, 1024, 4099];

/// The cases of the optimisers.
#[must_use]
pub fn cases() -> Vec<OptimizerCase> {
    let sgd = |name, momentum, nesterov, weight_decay| OptimizerCase {
        name,
        rule: Rule::Sgd {
            momentum,
            nesterov,
            weight_decay,
        },
    };
    let adam = |name, betas, weight_decay, decoupled| OptimizerCase {
        name,
        rule: Rule::Adam {
            betas,
            epsilon: 1e-8,
            weight_decay,
            decoupled,
        },
    };
    vec![
        sgd("plain", 0.0, false, 0.0),
        sgd("plain with decay", 0.0, false, 0.01),
        sgd("momentum", 0.9, false, 1e-4),
        sgd("Nesterov", 0.9, true, 5e-4),
        adam("Adam", (0.9, 0.999), 0.0, false),
        adam("Adam with decay", (0.9, 0.99), 0.02, false),
        adam("AdamW", (0.9, 0.999), 0.05, true),
    ]
}

/// State of one parameter: momentum, or running mean and square.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct State {
    /// Momentum or mean.
    pub first: f64,
    /// Square.
    pub second: f64,
}

/// One update of one parameter in step `step` (from 1).
pub fn update(
    rule: &Rule,
    learning_rate: f64,
    step: i32,
    gradient: f64,
    parameter: &mut f64,
    state: &mut State,
) {
    match *rule {
        Rule::Sgd {
            momentum,
            nesterov,
            weight_decay,
        } => {
            let gradient = gradient + weight_decay * *parameter;
            // PyTorch starts the momentum as the first gradient, which is what zero gives too.
            state.first = momentum * state.first + gradient;
            let direction = if nesterov {
                gradient + momentum * state.first
            } else {
                state.first
            };
            *parameter -= learning_rate * direction;
        }
        Rule::Adam {
            betas,
            epsilon,
            weight_decay,
            decoupled,
        } => {
            let mut gradient = gradient;
            if decoupled {
                *parameter *= 1.0 - learning_rate * weight_decay;
            } else {
                gradient += weight_decay * *parameter;
            }
            state.first = betas.0 * state.first + (1.0 - betas.0) * gradient;
            state.second = betas.1 * state.second + (1.0 - betas.1) * gradient * gradient;
            let mean = state.first / (1.0 - betas.0.powi(step));
            let square = state.second / (1.0 - betas.1.powi(step));
            *parameter -= learning_rate * mean / (square.sqrt() + epsilon);
        }
    }
}

/// The norm of all gradients, and the factor that brings it down to `max_norm`.
#[must_use]
pub fn clip(gradients: &[&[f64]], max_norm: f64) -> (f64, f64) {
    let squares: f64 = gradients
        .iter()
        .flat_map(|gradient| gradient.iter())
        .map(|value| value * value)
        .sum();
    let norm = squares.sqrt();
    (norm, (max_norm / (norm + 1e-6)).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_steps_of_momentum_by_hand() {
        let rule = Rule::Sgd {
            momentum: 0.5,
            nesterov: false,
            weight_decay: 0.0,
        };
        let (mut parameter, mut state) = (1.0, State::default());
        update(&rule, 0.1, 1, 2.0, &mut parameter, &mut state);
        assert!((parameter - 0.8).abs() < 1e-12);
        update(&rule, 0.1, 2, 2.0, &mut parameter, &mut state);
        assert!((parameter - 0.5).abs() < 1e-12);
    }

    #[test]
    fn the_first_step_of_adam_is_the_learning_rate() {
        for case in &cases()[4..5] {
            let (mut parameter, mut state) = (1.0, State::default());
            update(&case.rule, 0.1, 1, 2.0, &mut parameter, &mut state);
            assert!((parameter - 0.9).abs() < 1e-8);
        }
    }

    #[test]
    fn clipping_leaves_short_gradients_alone() {
        assert_eq!(clip(&[&[3.0], &[4.0]], 10.0), (5.0, 1.0));
        assert!((clip(&[&[3.0], &[4.0]], 1.0).1 - 0.2).abs() < 1e-6);
    }
}
