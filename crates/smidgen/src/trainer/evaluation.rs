use crate::{Error, Metrics, STEPS_IN_FLIGHT, Session};
use smidgen_data::{Dataset, Loader};
use std::ops::ControlFlow;

/// Evaluates a whole data set, every image once. `on_batch` is told how many images are done; where it breaks there is no result.
///
/// # Errors
/// Data that does not fit the network, damaged data, a failed device.
pub fn evaluate(
    session: &mut Session,
    test: &Loader,
    mut on_batch: impl FnMut(u64) -> ControlFlow<()>,
) -> Result<Option<Metrics>, Error> {
    check_data(session, test.dataset().as_ref())?;
    let mut total = Metrics::default();
    let mut flow = ControlFlow::Continue(());
    for batch in test.epoch(0, 0) {
        let batch = batch?;
        session.evaluate_batch(&batch.images, &batch.labels)?;
        test.recycle(batch);
        if session.pending() == STEPS_IN_FLIGHT
            && let Some(metrics) = session.metrics()?
        {
            total.add(&metrics);
            flow = on_batch(total.images);
            if flow.is_break() {
                break;
            }
        }
    }
    while let Some(metrics) = session.metrics()? {
        total.add(&metrics);
    }
    Ok(flow.is_continue().then_some(total))
}

pub(super) fn check_data(session: &Session, data: &dyn Dataset) -> Result<(), Error> {
    let shape = data.image_shape();
    let data = ([shape.channels, shape.height, shape.width], data.classes());
    let graph = session.graph();
    let network = (
        graph.input_shape().map(|size| size as usize),
        graph.classes() as usize,
    );
    if data == network {
        return Ok(());
    }
    let describe = |([c, h, w], classes): ([usize; 3], usize)| {
        format!("{c} channels of {h}x{w} and {classes} classes")
    };
    Err(Error::DataMismatch {
        data: describe(data),
        network: describe(network),
    })
}
