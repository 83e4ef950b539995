use smidgen_gpu::{DeviceFacts, DeviceKind};
use smidgen_plan::Roofline;

/// A first guess of a device's speed from its kind alone. Only the ratios matter to the choice of forms.
pub(super) fn roofline(facts: &DeviceFacts) -> Roofline {
    let (flops, bytes, launch) = match facts.kind {
        DeviceKind::Discrete | DeviceKind::Virtual => (5e12, 4e11, 5e-6),
        DeviceKind::Integrated => (8e11, 5e10, 1e-5),
        DeviceKind::Software => (3e10, 7e9, 2e-5),
    };
    Roofline {
        flops,
        bytes,
        launch,
    }
}
