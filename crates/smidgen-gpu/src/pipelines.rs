//! Compiled pipelines on disk, where the driver can keep them (Vulkan).

use std::path::{Path, PathBuf};
use std::{fs, io};

/// The driver's own cache of pipelines, and the file it comes from and goes to.
#[derive(Debug)]
pub(crate) struct PipelineStore {
    pub(crate) cache: wgpu::PipelineCache,
    file: PathBuf,
}

impl PipelineStore {
    /// The pipelines that `folder` keeps for an adapter and its driver; an empty store if there are none, or a damaged file; `None` where
    /// the driver keeps none.
    pub(crate) fn open(device: &wgpu::Device, folder: &Path) -> Option<Self> {
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let info = device.adapter_info();
        let key = wgpu::util::pipeline_cache_key(&info)?;
        let driver = checksum(format!("{} {}", info.driver, info.driver_info).as_bytes());
        let file = folder.join(format!("pipelines-{key}-{driver:016x}"));
        let bytes = fs::read(&file).unwrap_or_default();
        // SAFETY: the checksum says that these are whole the bytes that `save` got from a driver of this adapter and version; wgpu and the
        // driver compare both once more, and begin with an empty cache if they differ.
        #[allow(unsafe_code)]
        let cache = unsafe {
            device.create_pipeline_cache(&wgpu::PipelineCacheDescriptor {
                label: Some("smidgen"),
                data: sound(&bytes),
                fallback: true,
            })
        };
        Some(Self { cache, file })
    }

    /// Writes what the driver has by now, wholly or not at all.
    pub(crate) fn save(&self) -> io::Result<()> {
        let Some(data) = self.cache.get_data() else {
            return Ok(());
        };
        let bytes = [&checksum(&data).to_le_bytes(), data.as_slice()].concat();
        if fs::read(&self.file).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        if let Some(folder) = self.file.parent() {
            fs::create_dir_all(folder)?;
        }
        // Of its own for every process, so that two do not write one file.
        let part = self
            .file
            .with_extension(format!("{}.part", std::process::id()));
        let written = fs::write(&part, bytes).and_then(|()| fs::rename(&part, &self.file));
        if written.is_err() {
            let _ = fs::remove_file(&part);
        }
        written
    }
}

/// What follows the checksum, if it holds.
fn sound(bytes: &[u8]) -> Option<&[u8]> {
    let (sum, data) = bytes.split_first_chunk()?;
    (u64::from_le_bytes(*sum) == checksum(data)).then_some(data)
}

/// FNV-1a.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, DeviceRequest, Launch, Region, Sequence, params};

    params! { struct FillParams { count: u32, value: f32 } }

    #[test]
    fn only_whole_data_is_sound() {
        let data = b"pipelines";
        let whole = [&checksum(data).to_le_bytes(), data.as_slice()].concat();
        assert_eq!(sound(&whole), Some(data.as_slice()));
        for at in 0..whole.len() {
            assert_eq!(sound(&whole[..at]), None);
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert_eq!(sound(&damaged), None);
        }
    }

    #[test]
    fn a_damaged_file_is_begun_anew() {
        let folder = std::env::temp_dir().join(format!("smidgen-pipelines-{}", std::process::id()));
        let request = DeviceRequest {
            cache: Some(folder.clone()),
            ..DeviceRequest::default()
        };
        let run = || {
            let device = Device::open(&request).unwrap();
            let buffer = device.storage_buffer("numbers", 1024).unwrap();
            let params = FillParams {
                count: 256,
                value: 1.5,
            };
            let regions = vec![Region::whole(0, 1024)];
            let fill = Launch::new("ops/fill.wgsl", &[], &params, regions, [1, 1, 1]);
            let sequence = Sequence::prepare(&device, &[fill], &[&buffer]).unwrap();
            device.run(|pass| sequence.record(pass)).unwrap();
            assert_eq!(device.read::<f32>(&buffer, 0, 256).unwrap(), [1.5; 256]);
            device.save_pipelines().unwrap();
        };
        run();
        let files = || {
            fs::read_dir(&folder)
                .map(|files| files.map(|file| file.unwrap().path()).collect::<Vec<_>>())
        };
        let Ok(files) = files() else {
            let said = std::io::Write::write_all(
                &mut std::io::stderr(),
                b"skipped: this driver keeps no pipelines\n",
            );
            return said.unwrap();
        };
        assert_eq!(files.len(), 1, "{files:?}");
        let whole = fs::read(&files[0]).unwrap();
        assert!(sound(&whole).is_some());
        run();
        for damage in [&whole[..whole.len() / 2], b"", &[7; 4096]] {
            fs::write(&files[0], damage).unwrap();
            run();
            assert!(sound(&fs::read(&files[0]).unwrap()).is_some());
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
