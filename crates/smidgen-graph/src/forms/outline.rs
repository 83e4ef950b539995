use super::slices::Moved;
use super::{Code, Codes, FormPass};
use crate::attributes::Activation;
use crate::operation::{Content, Operation, OperationKind, Phase};
use crate::program::{Layout, Program, Role, ValueId};
use crate::source::Source;
use std::collections::BTreeMap;

/// A forward value that backward needs again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stash {
    /// The value.
    pub value: ValueId,
    /// Its bytes when held whole.
    pub bytes: u64,
    /// What backward needs of it: the most that any of its readers asks for.
    pub content: Content,
    /// The forward operation that makes it; `None` for the pictures.
    pub producer: Option<usize>,
    /// Whether [`Form::Recomputed`](super::Form::Recomputed) is open to it.
    pub repeatable: bool,
    /// The numbers of slices that are open to it, with the workspace that the operation then needs; none unless the outline was made
    /// [`with_slices`](Outline::with_slices).
    pub slices: Vec<(u32, u64)>,
    /// The codes that are open to it, with its bytes in each; none unless the outline was made [`with_codes`](Outline::with_codes).
    pub codes: Vec<(Code, u64)>,
    /// The codes that are open to it with the slope of its activation beside it, with its bytes in both.
    pub masked: Vec<(Code, u64)>,
    /// How backward reads it, where `masked` are open.
    pub activated: Option<Activated>,
    /// Whether [`Form::Offloaded`](super::Form::Offloaded) is open to it; never unless the outline was made [`with_host`](Outline::with_host).
    pub offloadable: bool,
    /// The backward operations that read it and can decode it as they load.
    pub loading: Vec<usize>,
    /// Whether others read it too, for which it is decoded.
    pub decoded: bool,
}

impl Stash {
    /// What forms of this stash may ask for beyond the operations of the program, or in their place; of codes those that are
    /// [`searched`](Code::searched).
    #[must_use]
    pub fn passes(&self) -> Vec<FormPass> {
        let codes = self.codes.iter().map(|(code, _)| (*code, false));
        let masked = self.masked.iter().map(|(code, _)| (*code, true));
        let mut passes = Vec::new();
        let searched = |(code, _): &(Code, bool)| !code.is_bounded();
        for (code, slope) in codes.chain(masked).filter(searched) {
            passes.push(FormPass::Encode { code, slope });
            passes.extend(self.decoded.then_some(FormPass::Decode { code }));
            passes.extend(self.loading.iter().map(|&operation| FormPass::Load {
                operation,
                code,
                slope,
            }));
        }
        if self.offloadable {
            passes.extend([FormPass::Send, FormPass::Fetch]);
        }
        passes
    }
}

/// What a normalisation and a ReLU make of a stash as it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activated {
    /// The normalisation.
    pub normalisation: ValueId,
    /// The activation behind it.
    pub activation: Activation,
    /// What its slope is held in.
    pub slope: Code,
    /// Bytes of its slope.
    pub slope_bytes: u64,
}

/// What of a program matters for forms: who reads and writes what. Made once, asked thousands of times by a planner.
#[derive(Debug, Clone)]
pub struct Outline {
    pub(super) reads: Vec<Vec<usize>>,
    pub(super) writes: Vec<Vec<usize>>,
    /// By operation: what it can decode as it loads.
    pub(super) loads: Vec<Option<usize>>,
    pub(super) phases: Vec<Phase>,
    /// By value: the forward operation that makes it.
    pub(super) producers: Vec<Option<usize>>,
    pub(super) persistent: Vec<bool>,
    /// By value: whether it is what statistics are merged from, which an operation leaves only when it runs for the first time.
    pub(super) moments: Vec<bool>,
    /// By operation: whether it may run a second time.
    pub(super) repeatable: Vec<bool>,
    /// By value: whether it is held unless a form says otherwise.
    pub(super) stashed: Vec<bool>,
    /// By value: the last operation of the forward pass or the loss that touches it.
    pub(super) last_forward: Vec<usize>,
    pub(super) stashes: Vec<Stash>,
    /// By value that can be made again in slices: what this moves.
    pub(super) moved: BTreeMap<usize, Moved>,
    /// By value: its index among the stashes.
    pub(super) positions: Vec<Option<usize>>,
    pub(super) names: Vec<String>,
}

impl Outline {
    /// The outline of a program in which every stash is whole.
    #[must_use]
    pub fn new(program: &Program) -> Self {
        let ids = |list: Vec<ValueId>| list.into_iter().map(|id| id.0).collect::<Vec<_>>();
        let operations = &program.operations;
        let reads: Vec<Vec<usize>> = operations.iter().map(|o| ids(o.reads())).collect();
        let writes: Vec<Vec<usize>> = operations.iter().map(|o| ids(o.writes())).collect();
        let phases: Vec<Phase> = operations.iter().map(|o| o.phase).collect();
        let persistent: Vec<bool> =
            (program.values.iter().map(|v| v.role.is_persistent())).collect();
        let repeatable: Vec<bool> = operations.iter().map(may_run_again).collect();
        let mut producers = vec![None; program.values.len()];
        for (at, written) in writes.iter().enumerate() {
            for &value in written {
                if phases[at] == Phase::Forward && !persistent[value] {
                    producers[value].get_or_insert(at);
                }
            }
        }
        let mut needs: Vec<Option<Content>> = vec![None; program.values.len()];
        for operation in operations.iter().filter(|o| is_backward(o.phase)) {
            let contents = operation.needs();
            for id in operation.reads() {
                let made_forward =
                    producers[id.0].is_some() || program.value(id).role == Role::Images;
                if made_forward {
                    let content = contents.iter().find(|(need, _)| *need == id);
                    let content = content.map_or(Content::Exact, |(_, content)| *content);
                    let needed = needs[id.0].get_or_insert(content);
                    *needed = stricter(*needed, content);
                }
            }
        }
        let stashes = needs.iter().enumerate().filter_map(|(value, content)| {
            let producer = producers[value];
            Some(Stash {
                value: ValueId(value),
                bytes: program.bytes(ValueId(value)),
                content: (*content)?,
                producer,
                repeatable: producer.is_some_and(|at| repeatable[at]),
                slices: Vec::new(),
                codes: Vec::new(),
                masked: Vec::new(),
                activated: None,
                offloadable: false,
                loading: Vec::new(),
                decoded: false,
            })
        });
        let mut stashes: Vec<Stash> = stashes.collect();
        stashes.sort_by_key(|stash| (stash.producer, stash.value));
        let mut last_forward = vec![0; program.values.len()];
        for at in (0..operations.len()).filter(|at| !is_backward(phases[*at])) {
            for &value in reads[at].iter().chain(&writes[at]) {
                last_forward[value] = at;
            }
        }
        let mut positions = vec![None; program.values.len()];
        for (at, stash) in stashes.iter().enumerate() {
            positions[stash.value.0] = Some(at);
        }
        let loads: Vec<Option<usize>> = (operations.iter())
            .map(|operation| Some(operation.kind.decodes()?.0))
            .collect();
        for at in (0..operations.len()).filter(|at| is_backward(phases[*at])) {
            for &value in &reads[at] {
                let Some(position) = positions[value] else {
                    continue;
                };
                let stash = &mut stashes[position];
                if loads[at] == Some(value) {
                    stash.loading.push(at);
                } else {
                    stash.decoded = true;
                }
            }
        }
        Self {
            last_forward,
            positions,
            moved: BTreeMap::new(),
            stashed: needs.iter().map(Option::is_some).collect(),
            stashes,
            loads,
            reads,
            writes,
            phases,
            producers,
            moments: (program.values.iter())
                .map(|value| matches!(value.layout, Layout::Moments(_)))
                .collect(),
            persistent,
            repeatable,
            names: program
                .values
                .iter()
                .map(|value| value.name.clone())
                .collect(),
        }
    }

    /// The same outline with the codes opened that serve a stash and save bytes. `program` is the one this outline was made of.
    #[must_use]
    pub fn with_codes(mut self, program: &Program, codes: &dyn Codes) -> Self {
        for stash in &mut self.stashes {
            let Some(shape) = program.value(stash.value).layout.map() else {
                continue;
            };
            let backward = program.operations.iter().filter(|o| is_backward(o.phase));
            let masked = backward
                .flat_map(Operation::needs)
                .any(|need| need == (stash.value, Content::Mask));
            let producer = stash.producer.map(|at| &program.operations[at].kind);
            let rectified = matches!(
                producer,
                Some(OperationKind::Add {
                    activation: Activation::Relu,
                    ..
                })
            );
            let saving = |extra: u64| {
                let bytes = stash.bytes;
                move |(code, held): (Code, u64)| {
                    Some((code, held + extra)).filter(|(_, all)| *all < bytes)
                }
            };
            let sized = |code: Code| Some((code, codes.bytes(code, shape)?));
            if !masked || rectified {
                let content = stash.content;
                let serving = Code::ALL
                    .into_iter()
                    .filter(|code| code.serves(content, masked, rectified));
                stash.codes = serving.filter_map(sized).filter_map(saving(0)).collect();
            }
            let slope_of = |read_as: (ValueId, Activation)| {
                let slope = Code::of_slope(read_as.1)?;
                Some((read_as, slope, codes.bytes(slope, shape)?))
            };
            if let Some(((normalisation, activation), slope, slope_bytes)) =
                activated(program, stash.value).and_then(slope_of)
            {
                let numbers = Code::ALL
                    .into_iter()
                    .filter(|code| code.serves(Content::Linear, false, false));
                stash.masked = numbers
                    .filter_map(sized)
                    .filter_map(saving(slope_bytes))
                    .collect();
                stash.activated = Some(Activated {
                    normalisation,
                    activation,
                    slope,
                    slope_bytes,
                });
            }
        }
        self
    }

    /// The same outline with the host's memory opened to maps that fit `bytes` of it together, each taking a multiple of `alignment` and none
    /// crossing from one buffer of `buffer` bytes into the next: first those that are held the longest, which add to every peak. With no bytes
    /// it is closed again.
    #[must_use]
    pub fn with_host(mut self, program: &Program, bytes: u64, alignment: u64, buffer: u64) -> Self {
        let mut end = 0_u64;
        for stash in &mut self.stashes {
            let is_map = program.value(stash.value).layout.map().is_some();
            let needed = stash.bytes.next_multiple_of(alignment);
            let begin = match end % buffer {
                0 => end,
                used if needed <= buffer - used => end,
                used => end.saturating_add(buffer - used),
            };
            let after = begin.saturating_add(needed);
            stash.offloadable = is_map && stash.producer.is_some() && after <= bytes;
            if stash.offloadable {
                end = after;
            }
        }
        self
    }

    /// A stash, by its value.
    #[must_use]
    pub fn stash(&self, value: ValueId) -> Option<&Stash> {
        self.stashes.get((*self.positions.get(value.0)?)?)
    }

    /// The stashes, in the order in which they are made.
    #[must_use]
    pub fn stashes(&self) -> &[Stash] {
        &self.stashes
    }

    /// Whether backward needs a value of the forward pass.
    #[must_use]
    pub fn is_stash(&self, value: ValueId) -> bool {
        self.stashed[value.0]
    }

    /// The forward operation that makes a value.
    #[must_use]
    pub fn producer(&self, value: ValueId) -> Option<usize> {
        self.producers[value.0]
    }

    /// The values an operation reads, by its index.
    #[must_use]
    pub fn reads(&self, operation: usize) -> &[usize] {
        &self.reads[operation]
    }

    /// The values an operation writes, by its index.
    #[must_use]
    pub fn writes(&self, operation: usize) -> &[usize] {
        &self.writes[operation]
    }
}

pub(super) fn is_backward(phase: Phase) -> bool {
    matches!(phase, Phase::Backward | Phase::Update)
}

/// The normalisation and the ReLU (or ReLU6) that every backward operation reads a value through, if all do so in one way and can also read it with
/// the slope apart.
fn activated(program: &Program, value: ValueId) -> Option<(ValueId, Activation)> {
    let mut read_as = None;
    for operation in program.operations.iter().filter(|o| is_backward(o.phase)) {
        if !operation.reads().contains(&value) {
            continue;
        }
        let input = match &operation.kind {
            OperationKind::ConvolutionWeightGradient { input, .. }
            | OperationKind::BatchNormBackward { input, .. } => input,
            _ => return None,
        };
        let known = *read_as.get_or_insert(*input);
        let loads = operation.kind.decodes() == Some(value);
        if known != *input || !loads || Code::of_slope(input.activation).is_none() {
            return None;
        }
    }
    let source: Source = read_as?;
    Some((source.normalisation?, source.activation))
}

fn stricter(left: Content, right: Content) -> Content {
    match (left, right) {
        (Content::Exact, _) | (_, Content::Exact) => Content::Exact,
        // Numbers and signs: a lossy form must keep the signs apart.
        (Content::Linear, _) | (_, Content::Linear) => Content::Linear,
        _ => Content::Mask,
    }
}

/// Whether running an operation twice does no harm: it depends on nothing that changes within the step before its own backward
/// operation, and changes nothing but its outputs. Statistics are out: they would move the running ones twice.
fn may_run_again(operation: &Operation) -> bool {
    use OperationKind as Kind;
    operation.phase == Phase::Forward
        && matches!(
            operation.kind,
            Kind::Convolution { .. }
                | Kind::Apply { .. }
                | Kind::Add { .. }
                | Kind::Concat { .. }
                | Kind::Shortcut { .. }
                | Kind::MaxPool { .. }
                | Kind::AveragePool { .. }
                | Kind::GlobalAveragePool { .. }
                | Kind::Dropout { .. }
                | Kind::FilterPatchSums { .. }
        )
}
