use crate::arguments::EvalArguments;
use crate::output::{Output, share};
use serde::Serialize;
use smidgen::cache_folder;
use smidgen::data::{Loader, Split};
use smidgen::gpu::{Device, DeviceRequest};
use smidgen::{Error, Session, SessionOptions, checkpoint, evaluate, zoo};
use std::ops::ControlFlow;
use std::time::Instant;

#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    accuracy: f64,
    top5_accuracy: f64,
    loss: f64,
    images: u64,
    reserved_bytes: u64,
    budget_bytes: Option<u64>,
}

pub(crate) fn run(
    arguments: &EvalArguments,
    adapter: Option<String>,
    output: &Output,
) -> Result<(), Error> {
    let source = &arguments.data.0;
    let data = source.open(Split::Test)?;
    let weights = checkpoint::read_weights(&arguments.weights)?;
    let shape = data.image_shape();
    let graph = zoo::build(
        &arguments.model,
        data.classes() as u32,
        [shape.channels, shape.height, shape.width].map(|size| size as u32),
    )?;
    weights.check(&graph)?;
    let device = Device::open(&DeviceRequest {
        adapter,
        cache: cache_folder(),
        ..Default::default()
    })?;
    let options = SessionOptions {
        batch: arguments.batch,
        training: None,
        budget: arguments.budget,
    };
    let mut session = Session::new(device, &graph, &options, 0)?;
    session.load(&weights)?;
    let loader = Loader::evaluation(data, arguments.batch as usize, source.normalization())?;
    let (reserved, of) = (session.footprint().total(), loader.dataset().len() as u64);
    let memory = share(reserved, arguments.budget);
    let started = Instant::now();
    let metrics = evaluate(&mut session, &loader, |images| {
        let pace = images as f64 / started.elapsed().as_secs_f64();
        output.progress(images, of, format!("{pace:.0} images/s, {memory}"));
        ControlFlow::Continue(())
    })?
    .unwrap_or_default();
    output.finish();
    output.json(&Report {
        model: &arguments.model,
        accuracy: metrics.accuracy(),
        top5_accuracy: metrics.top5_accuracy(),
        loss: metrics.loss(),
        images: metrics.images,
        reserved_bytes: reserved.0,
        budget_bytes: arguments.budget.map(|budget| budget.0),
    });
    output.text(&format!(
        "{} on {} images: accuracy {:.2} %, top 5 {:.2} %, loss {:.4} ({})",
        arguments.model,
        metrics.images,
        100.0 * metrics.accuracy(),
        100.0 * metrics.top5_accuracy(),
        metrics.loss(),
        memory
    ));
    Ok(())
}
