//! What was measured, on disk: one file a device and driver.

use super::choices::Measurements;
use serde::{Deserialize, Serialize};
use smidgen_gpu::DeviceFacts;
use smidgen_graph::replace_file;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// What a file says. Times of other shaders say nothing of these; a hash may collide in a file's name, so the device stands inside, too.
#[derive(Debug, Serialize, Deserialize)]
struct Contents {
    device: String,
    driver: String,
    backend: String,
    shaders: String,
    seconds: Measurements,
}

/// The measurements of one device with the shaders of this version.
#[derive(Debug)]
pub(crate) struct Cache {
    file: PathBuf,
    key: [String; 4],
}

impl Cache {
    pub(crate) fn new(folder: &Path, facts: &DeviceFacts) -> Self {
        let device = [&facts.name, &facts.driver, &facts.backend].map(String::clone);
        let name = format!("variants-{:016x}.json", hash(&device));
        let shaders = smidgen_shaders::SOURCES
            .iter()
            .flat_map(|(name, text)| [*name, *text]);
        let [name_of_device, driver, backend] = device;
        Self {
            file: folder.join(name),
            key: [
                name_of_device,
                driver,
                backend,
                format!("{:016x}", hash(shaders)),
            ],
        }
    }

    /// What was measured before; nothing if there is no file, or one of other shaders. The text says why a file was left aside.
    pub(crate) fn load(&self) -> (Measurements, Option<String>) {
        let text = match fs::read_to_string(&self.file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Default::default(),
            Err(error) => {
                return (
                    Measurements::default(),
                    Some(self.aside(&error.to_string())),
                );
            }
        };
        match serde_json::from_str::<Contents>(&text) {
            Ok(contents) => {
                let Contents {
                    device,
                    driver,
                    backend,
                    shaders,
                    seconds,
                } = contents;
                if [device, driver, backend, shaders] == self.key {
                    (seconds, None)
                } else {
                    Default::default()
                }
            }
            Err(error) => (
                Measurements::default(),
                Some(self.aside(&error.to_string())),
            ),
        }
    }

    fn aside(&self, why: &str) -> String {
        format!(
            "{} cannot be used and will be written anew: {why}",
            self.file.display()
        )
    }

    /// Adds to the file, which is replaced as a whole. Of two programs that do so at once one may lose its own, and measures again.
    ///
    /// The text says why it could not be written.
    pub(crate) fn save(&self, measured: &Measurements) -> Option<String> {
        let (mut all, _) = self.load();
        all.merge(measured.clone());
        let [device, driver, backend, shaders] = self.key.clone();
        let contents = Contents {
            device,
            driver,
            backend,
            shaders,
            seconds: all,
        };
        let written = serde_json::to_vec_pretty(&contents)
            .map_err(io::Error::from)
            .and_then(|text| {
                fs::create_dir_all(self.file.parent().unwrap_or(Path::new(".")))?;
                replace_file(&self.file, &text)
            });
        written.err().map(|error| {
            format!(
                "{} cannot be written, the next run measures again: {error}",
                self.file.display()
            )
        })
    }
}

/// FNV-1a over the texts and their ends: the same on every machine and with every compiler.
pub(super) fn hash<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for text in texts {
        for byte in text.as_ref().bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuning::choices::ShapeClass;
    use smidgen_conv::{ConvolutionShape, Pass};
    use smidgen_gpu::DeviceKind;

    fn facts(name: &str, driver: &str) -> DeviceFacts {
        DeviceFacts {
            name: name.into(),
            driver: driver.into(),
            backend: "vulkan".into(),
            kind: DeviceKind::Discrete,
            max_buffer_bytes: 0,
            max_binding_bytes: 0,
            storage_alignment: 0,
            uniform_alignment: 0,
            workgroup_memory_bytes: 0,
            max_invocations: 0,
            subgroup_sizes: None,
            timestamps: false,
            half_precision: false,
            host_memory: false,
        }
    }

    fn measured(width: u32) -> Measurements {
        let shape = ConvolutionShape::new(1, [4, 8, width], 4, [3, 3]);
        let class = ShapeClass {
            pass: Pass::Forward,
            shape,
        };
        let mut measured = Measurements::default();
        measured.note(&class, "direct 4x1".parse().unwrap(), 0.125);
        measured
    }

    #[test]
    fn what_was_measured_is_found_again_and_added_to() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(&folder.path().join("new"), &facts("A", "1"));
        assert_eq!(cache.load(), Default::default());
        assert_eq!(cache.save(&measured(8)), None);
        assert_eq!(cache.load(), (measured(8), None));
        assert_eq!(cache.save(&measured(9)), None);
        let mut both = measured(8);
        both.merge(measured(9));
        assert_eq!(cache.load(), (both, None));
    }

    #[test]
    fn another_device_driver_or_shader_finds_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path(), &facts("A", "1"));
        cache.save(&measured(8));
        for other in [facts("B", "1"), facts("A", "2")] {
            assert_eq!(Cache::new(folder.path(), &other).load(), Default::default());
        }
        let mut changed = Cache::new(folder.path(), &facts("A", "1"));
        changed.key[3] = "0".into();
        assert_eq!(changed.load(), Default::default());
        // And it takes the place of what is of no use any more.
        changed.save(&measured(9));
        assert_eq!(changed.load(), (measured(9), None));
        assert_eq!(cache.load(), Default::default());
    }

    #[test]
    fn a_damaged_file_is_told_of_and_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path(), &facts("A", "1"));
        cache.save(&measured(8));
        let whole = fs::read(&cache.file).unwrap();
        for damage in [
            b"".as_slice(),
            &whole[..whole.len() / 2],
            b"\xff\xfe",
            b"[]",
        ] {
            fs::write(&cache.file, damage).unwrap();
            let (found, why) = cache.load();
            assert_eq!(found, Measurements::default());
            assert!(
                why.unwrap()
                    .contains("cannot be used and will be written anew")
            );
            assert_eq!(cache.save(&measured(8)), None);
            assert_eq!(cache.load(), (measured(8), None));
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let cache = Cache::new(&file, &facts("A", "1"));
        assert!(
            cache
                .save(&measured(8))
                .unwrap()
                .contains("cannot be written")
        );
    }
}
