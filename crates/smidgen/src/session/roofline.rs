use smidgen_gpu::{DeviceFacts, DeviceKind};
use smidgen_plan::Roofline;

/// A first guess of a device's speed from its kind alone. Only the ratios matter to the choice of forms.
pub(super) fn roofline(facts: &DeviceFacts) -> Roofline {
    let (flops, bytes, host, launch) = match facts.kind {
        // Of a bus of 16 lanes of the fourth generation, what kernels reach.
        DeviceKind::Discrete | DeviceKind::Virtual => (5e12, 4e11, 2e10, 5e-6),
        // Their memory is the host's.
        DeviceKind::Integrated => (8e11, 5e10, 5e10, 1e-5),
        DeviceKind::Software => (3e10, 7e9, 7e9, 2e-5),
    };
    Roofline {
        flops,
        bytes,
        host,
        launch,
    }
}
