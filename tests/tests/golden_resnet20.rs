//! ResNet-20 against PyTorch: logits, loss, every gradient, running statistics, and the parameters after five steps of SGD.

use smidgen::data::{DataSource, Dataset, Normalization, Split};
use smidgen::{Metrics, Optimizer, Session, StepOptions, Training, checkpoint};
use smidgen_reference::golden::Golden;
use smidgen_tests::{quads, session, test_data};
use std::sync::Arc;

const BATCH: usize = 16;

struct Setting {
    golden: Golden,
    session: Session,
    data: Arc<dyn Dataset>,
}

fn setting(training: Option<Training>) -> Option<Setting> {
    let golden = Golden::open("resnet20_steps.safetensors")?;
    let weights =
        checkpoint::read_weights(&test_data("models/resnet20_cifar10.safetensors")?).unwrap();
    let data = DataSource::Cifar10(test_data("cifar-10-batches-bin")?)
        .open(Split::Test)
        .unwrap();
    let mut session = session("resnet20", BATCH as u32, training);
    session.load(&weights).unwrap();
    Some(Setting {
        golden,
        session,
        data,
    })
}

fn training() -> Training {
    let optimizer = Optimizer::Sgd {
        momentum: 0.9,
        nesterov: false,
        weight_decay: 1e-4,
    };
    Training {
        optimizer,
        keep_gradients: true,
        ..Training::default()
    }
}

impl Setting {
    fn batch(&self, name: &str) -> (Vec<f32>, Vec<u32>) {
        let indices = self.golden.integers(&format!("{name}.indices")).unwrap();
        let Normalization { mean, deviation } = Normalization::colour();
        let (mut nchw, mut labels) = (Vec::new(), Vec::new());
        let mut picture = vec![0; self.data.image_shape().bytes()];
        for index in indices {
            self.data.decode(index as usize, &mut picture).unwrap();
            let plane = picture.len() / 3;
            nchw.extend(picture.iter().enumerate().map(|(at, byte)| {
                (f32::from(*byte) / 255.0 - mean[at / plane]) / deviation[at / plane]
            }));
            labels.push(self.data.label(index as usize));
        }
        (quads(&nchw, BATCH), labels)
    }

    fn step(&mut self, name: &str, step: u64) -> Metrics {
        let (images, labels) = self.batch(name);
        self.session
            .train_step(
                &images,
                &labels,
                &StepOptions {
                    step,
                    learning_rate: 0.01,
                    seed: 0,
                },
            )
            .unwrap();
        self.session.metrics().unwrap().unwrap()
    }

    fn expected(&self, name: &str) -> Vec<f32> {
        self.golden
            .tensor(name)
            .unwrap_or_else(|| panic!("no {name}"))
            .1
    }

    fn compare_all(&mut self, prefix: &str, tolerance: f64) {
        let names: Vec<String> = self
            .golden
            .names()
            .into_iter()
            .filter(|name| name.starts_with(prefix))
            .collect();
        assert!(names.len() > 30, "{prefix}: {} tensors", names.len());
        for name in names {
            let actual = self.session.read(&name[prefix.len()..]).unwrap();
            assert_close(&name, &actual, &self.expected(&name), tolerance);
        }
    }
}

fn assert_close(name: &str, actual: &[f32], expected: &[f32], tolerance: f64) {
    assert_eq!(actual.len(), expected.len(), "{name}");
    let square = |values: &mut dyn Iterator<Item = f64>| {
        values.map(|value| value * value).sum::<f64>().sqrt()
    };
    let difference = square(&mut actual.iter().zip(expected).map(|(a, e)| f64::from(a - e)));
    let norm = square(&mut expected.iter().map(|e| f64::from(*e)));
    let error = if norm == 0.0 {
        difference
    } else {
        difference / norm
    };
    assert!(error <= tolerance, "{name}: relative error {error:e}");
}

#[test]
fn evaluation_gives_the_logits_of_pytorch() {
    let Some(mut setting) = setting(None) else {
        return;
    };
    let (images, labels) = setting.batch("batch0");
    let expected_labels = setting.golden.integers("batch0.labels").unwrap();
    assert_eq!(
        labels
            .iter()
            .map(|label| i64::from(*label))
            .collect::<Vec<_>>(),
        expected_labels
    );
    let expected_images = setting.expected("batch0.images");
    assert_close(
        "batch0.images",
        &images,
        &quads(&expected_images, BATCH),
        1e-6,
    );
    setting.session.evaluate_batch(&images, &labels).unwrap();
    setting.session.metrics().unwrap().unwrap();
    let logits = setting
        .session
        .read(&logits_name(&setting.session))
        .unwrap();
    let expected = setting.expected("eval.logits");
    assert_eq!(logits.len(), expected.len());
    for (actual, expected) in logits.iter().zip(&expected) {
        assert!(
            (actual - expected).abs() <= 1e-4,
            "{actual} instead of {expected}"
        );
    }
}

fn logits_name(session: &Session) -> String {
    let program = session.main_program();
    program.value(program.logits).name.clone()
}

#[test]
fn a_training_step_has_the_loss_gradients_and_statistics_of_pytorch() {
    let Some(mut setting) = setting(Some(training())) else {
        return;
    };
    let metrics = setting.step("batch0", 0);
    let expected = setting.expected("train.loss")[0];
    assert!(
        (metrics.loss() - f64::from(expected)).abs() <= 1e-5,
        "loss {} instead of {expected}",
        metrics.loss()
    );
    let names: Vec<String> = setting
        .golden
        .names()
        .into_iter()
        .filter(|name| name.starts_with("grad."))
        .collect();
    assert_eq!(names.len(), 59);
    for name in names {
        let value = format!("gradient of {}", name.trim_start_matches("grad."));
        let actual = setting.session.read(&value).unwrap();
        let expected = setting.expected(&name);
        assert_close(&name, &actual, &expected, 1e-3);
    }
    setting.compare_all("after_forward.", 1e-3);
}

#[test]
fn five_steps_end_at_the_parameters_of_pytorch() {
    let Some(mut setting) = setting(Some(training())) else {
        return;
    };
    let losses = setting.expected("steps.losses");
    for (step, expected) in losses.iter().enumerate() {
        let metrics = setting.step(&format!("step{step}"), step as u64);
        assert!(
            (metrics.loss() - f64::from(*expected)).abs() <= 1e-3,
            "step {step}: loss {} instead of {expected}",
            metrics.loss()
        );
    }
    setting.compare_all("after_steps.", 1e-3);
}
