//! The factor that keeps gradients in f16 within what f16 can hold.

use super::Session;
use crate::Error;
use smidgen_gpu::bytemuck;
use smidgen_graph::LOSS_SCALE;
use smidgen_ops::clip::LossScale;

impl Session {
    /// The loss scale as the device has adapted it; `None` where maps are not held in f16.
    ///
    /// # Errors
    /// The device failed.
    pub fn loss_scale(&mut self) -> Result<Option<LossScale>, Error> {
        if self.main_program().find(LOSS_SCALE).is_none() {
            return Ok(None);
        }
        let numbers = self.read(LOSS_SCALE)?;
        Ok(Some(bytemuck::pod_read_unaligned(bytemuck::cast_slice(
            &numbers,
        ))))
    }

    pub(super) fn begin_loss_scale(&mut self) -> Result<(), Error> {
        if self.main_program().find(LOSS_SCALE).is_none() {
            return Ok(());
        }
        let begin = LossScale::default();
        self.write(LOSS_SCALE, bytemuck::cast_slice(&[begin]))
    }
}
