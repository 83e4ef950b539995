//! What the command can do about an error of the library, which knows nothing of the command.

use smidgen::Error;
use smidgen::gpu::GpuError;
use std::path::Path;

/// What to do next, in words of the command. `run_folder` is that of a run which `--resume` takes.
pub(crate) fn after(error: &Error, run_folder: Option<&Path>) -> Option<String> {
    match (error, run_folder) {
        (Error::Gpu(GpuError::NoAdapter), _) => {
            Some("on Debian and Ubuntu, `./x setup` installs Mesa's software Vulkan".into())
        }
        (Error::Gpu(GpuError::Lost(_)), Some(folder)) => Some(go_on(folder)),
        _ => None,
    }
}

/// How to go on with a run.
pub(crate) fn go_on(folder: &Path) -> String {
    format!("go on with: smidgen train --resume {}", quoted(folder))
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/\\:._-".contains(c);
    if text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_device_names_the_run_to_go_on_with() {
        let lost = Error::Gpu(GpuError::Lost("it was destroyed".into()));
        let hint = after(&lost, Some(Path::new("my runs/first")));
        let expected = "go on with: smidgen train --resume 'my runs/first'";
        assert_eq!(hint.as_deref(), Some(expected));
        // Without a folder nothing was saved.
        assert_eq!(after(&lost, None), None);
    }

    #[test]
    fn other_errors_say_all_there_is_to_say() {
        assert_eq!(after(&Error::EmptyBatch, Some(Path::new("run"))), None);
    }
}
