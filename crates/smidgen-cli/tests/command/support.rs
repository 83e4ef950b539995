//! Small data sets, and the command under test.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde_json::Value;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::OnceLock;
use tempfile::TempDir;

/// Training images of [`data`]: five steps an epoch.
pub(crate) const TRAIN_IMAGES: usize = 20;
pub(crate) const TEST_IMAGES: usize = 9;
/// Steps of a run with [`settings`].
pub(crate) const STEPS: u64 = 10;

/// The command, ready for arguments.
pub(crate) fn smidgen() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smidgen"));
    // Whatever the device, the same kernels, and no time spent on measuring them.
    command.env("SMIDGEN_TUNE", "off");
    command
}

/// Runs the command to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    smidgen().args(arguments).output().unwrap()
}

/// The lines of JSON that a successful command printed.
#[track_caller]
pub(crate) fn succeed(arguments: &[&str]) -> Vec<Value> {
    let output = run(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    json_lines(&String::from_utf8(output.stdout).unwrap())
}

#[track_caller]
pub(crate) fn json_lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}

/// The message of a command that must fail with status 1 and one message.
#[track_caller]
pub(crate) fn refuse(arguments: &[&str]) -> String {
    refusal(&run(arguments))
}

#[track_caller]
pub(crate) fn refusal(output: &Output) -> String {
    let message = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.starts_with("error: "), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(!message.contains("panicked"), "{message}");
    message
}

/// The message of a command line that must be refused as such.
#[track_caller]
pub(crate) fn refuse_usage(arguments: &[&str]) -> String {
    let output = run(arguments);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{message}");
    message
}

#[track_caller]
pub(crate) fn assert_names(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "`{word}` is missing in: {message}");
    }
}

/// Writes records as CIFAR-10 has them: a label, and a picture whose colour hints at it.
pub(crate) fn write_records(file: &Path, records: usize) {
    let mut random = Pcg64Mcg::seed_from_u64(records as u64);
    let mut bytes = Vec::new();
    for record in 0..records {
        let label = (record * 7 % 10) as u8;
        bytes.push(label);
        bytes.extend((0..3 * 32 * 32).map(|_| label * 20 + random.random_range(0..60)));
    }
    fs::write(file, bytes).unwrap();
}

/// What all tests share: a small data set and a run on it that nothing disturbed.
pub(crate) struct Shared {
    folder: PathBuf,
    /// Held as long as the folder is in use, should the tests run twice at a time.
    _lock: File,
}

pub(crate) fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        // Nothing that is shared is dropped at the end, so it lies where the next run of the tests finds and removes it.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("command");
        let lock = File::create(folder.with_extension("lock")).unwrap();
        lock.lock().unwrap();
        let _ = fs::remove_dir_all(&folder);
        let shared = Shared {
            folder,
            _lock: lock,
        };
        fs::create_dir_all(shared.data("")).unwrap();
        write_records(&shared.data("data_batch_1.bin"), TRAIN_IMAGES);
        write_records(&shared.data("test_batch.bin"), TEST_IMAGES);
        let reference = shared.reference();
        let mut arguments = shared.settings();
        arguments.extend(["--out".into(), reference.display().to_string()]);
        succeed(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        shared
    })
}

impl Shared {
    fn data(&self, file: &str) -> PathBuf {
        self.folder.join("data").join(file)
    }

    /// The data as `--data` takes it.
    pub(crate) fn source(&self) -> String {
        format!("cifar10:{}", self.folder.join("data").display())
    }

    /// A run of two epochs and [`STEPS`] steps, without `--out`.
    pub(crate) fn settings(&self) -> Vec<String> {
        let source = self.source();
        [
            "train",
            "--data",
            &source,
            "--batch",
            "4",
            "--epochs",
            "2",
            "--lr",
            "0.01",
            "--augment",
            "crop,flip",
            "--seed",
            "7",
            "--checkpoint-every",
            "1",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// The folder of the undisturbed run.
    pub(crate) fn reference(&self) -> PathBuf {
        self.folder.join("reference")
    }

    /// Its weights, of a ResNet-20.
    pub(crate) fn weights(&self) -> String {
        let file = self.reference().join("weights.safetensors");
        file.display().to_string()
    }
}

/// Says that a test skips; written past the test harness, which would keep it from being seen.
pub(crate) fn say_skipped(why: &str) {
    let _ = std::io::stderr().write_all(format!("skipped: {why}\n").as_bytes());
}

/// A folder of one test, and a path in it as text.
pub(crate) fn scratch(name: &str) -> (TempDir, String) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(name).display().to_string();
    (folder, path)
}

/// A command under way, whose lines can be waited for.
pub(crate) struct Underway {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Underway {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Waits for the next line; `None` at the end of the command.
    pub(crate) fn line(&mut self) -> Option<Value> {
        let line = self.lines.next()?.unwrap();
        Some(serde_json::from_str(&line).unwrap())
    }

    /// Waits until `event` has been told `count` times.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, event: &str, count: usize) {
        for _ in 0..count {
            while self.line().expect("the command ended too early")["event"] != event {}
        }
    }

    pub(crate) fn id(&self) -> String {
        self.child.id().to_string()
    }

    pub(crate) fn interrupt(&self) {
        let sent = Command::new("kill")
            .args(["-INT", &self.id()])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// SIGKILL: the command has no chance to do anything.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the end. What was printed and not yet waited for is in the output.
    pub(crate) fn finish(self) -> Output {
        let Self { child, lines } = self;
        let rest: Vec<String> = lines.map(Result::unwrap).collect();
        let mut output = child.wait_with_output().unwrap();
        output.stdout = rest.join("\n").into_bytes();
        output
    }
}
