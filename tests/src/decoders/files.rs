//! Files of a run, and those that prove who someone is.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use springbok_common::{
    credentials,
    ids::RunId,
    policy::{payload_bytes, read_safetensors, write_safetensors},
    recording::{Recording, read_recording, write_recording},
    spec::{ActionSpec, Activation, CoreSpec, EnvironmentSpec, NetworkSpec, ObservationSpec},
    version::{LearnerEpoch, PolicyVersion},
};
use springbok_learner::{
    checkpoint::{
        Checkpoint, Life, cut_metrics,
        disk::Disk,
        format::{self, Header},
        store::{Retention, Store, file_name},
    },
    trainer::{TrainerState, update::UpdaterState},
};

use super::{Example, samples, scratch};

fn run_id() -> RunId {
    RunId::from_bytes(&[7; 16]).expect("16 bytes")
}

// === Checkpoints ===

fn a_checkpoint(version: u64) -> (Header, Checkpoint) {
    let mut trainer = TrainerState::default();
    trainer.version = PolicyVersion(version);
    trainer.tally.trained_steps = 4096;
    let header = Header {
        epoch: 3,
        version,
        mean_return: Some(12.5),
    };
    let checkpoint = Checkpoint {
        run_id: run_id(),
        epoch: LearnerEpoch(3),
        config: "[run]\nseed = 3\n".to_owned(),
        updater: UpdaterState::of_parameters(vec![1; 64].into()),
        trainer,
    };
    (header, checkpoint)
}

fn encoded(version: u64) -> Vec<u8> {
    let (header, checkpoint) = a_checkpoint(version);
    format::encode(&header, &checkpoint).expect("a checkpoint")
}

pub(super) fn checkpoints() -> Vec<Example> {
    vec![("small", encoded(77))]
}

/// A whole file.
pub(super) fn checkpoint(bytes: &[u8]) -> bool {
    format::decode::<Checkpoint>(bytes).is_ok()
}

pub(super) fn contents() -> Vec<Example> {
    vec![("small", encoded(77).split_off(format::HEADER_BYTES))]
}

/// The content behind the checksums, as another release or a bug might write it.
pub(super) fn content(bytes: &[u8]) -> bool {
    let (header, _) = a_checkpoint(77);
    let unsealed = [&[0; format::HEADER_BYTES], bytes].concat();
    let sealed = format::seal(&header, unsealed).expect("a short content");
    let Ok((_, checkpoint)) = format::decode::<Checkpoint>(&sealed) else {
        return false;
    };
    let again = format::encode(&header, &checkpoint).expect("a checkpoint");
    assert!(format::decode::<Checkpoint>(&again).is_ok());
    true
}

/// A disk that is a map; nothing can be refused.
#[derive(Debug, Default)]
struct MapDisk(BTreeMap<PathBuf, Vec<u8>>);

impl MapDisk {
    fn found(&self, path: &Path) -> io::Result<&Vec<u8>> {
        self.0
            .get(path)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for MapDisk {
    fn create(&mut self, path: &Path) -> io::Result<()> {
        self.0.insert(path.to_owned(), Vec::new());
        Ok(())
    }

    fn append(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.0
            .entry(path.to_owned())
            .or_default()
            .extend_from_slice(content);
        Ok(())
    }

    fn sync_file(&mut self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let content = self.0.remove(from).ok_or(io::ErrorKind::NotFound)?;
        self.0.insert(to.to_owned(), content);
        Ok(())
    }

    fn sync_directory(&mut self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.0
            .remove(path)
            .map(|_| ())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.found(path).cloned()
    }

    fn read_start(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        let content = self.found(path)?;
        Ok(content[..content.len().min(bytes_max)].to_vec())
    }

    fn list(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.0.keys().cloned().collect())
    }
}

pub(super) fn stores() -> Vec<Example> {
    let named = |name: &str, content: Vec<u8>| [name.as_bytes(), b"\n", &content].concat();
    vec![
        ("newest", named(&file_name(9), encoded(9))),
        ("temporary", named(".tmp-1-1", encoded(9))),
    ]
}

/// A file of any name and content beside two good checkpoints: the newest good one is found, and what is kept is good.
pub(super) fn store(bytes: &[u8]) -> bool {
    let at = bytes
        .iter()
        .position(|&byte| byte == b'\n')
        .unwrap_or(bytes.len());
    let (name, content) = (&bytes[..at], bytes.get(at + 1..).unwrap_or_default());
    let folder = Path::new("checkpoints");
    let path = folder.join(String::from_utf8_lossy(name).as_ref());
    let retention = Retention {
        keep_last: 2,
        keep_best: true,
    };
    let mut store = Store::new(MapDisk::default(), folder.to_owned(), retention);
    let good = |version| folder.join(file_name(version));
    store.disk_mut().0.insert(path.clone(), content.to_vec());
    for version in [3, 4] {
        store.disk_mut().0.insert(good(version), encoded(version));
    }
    let decoded = |found: &springbok_learner::checkpoint::store::Found| {
        format::decode::<Checkpoint>(&found.bytes).map(|(header, _)| header.version)
    };
    let (found, _) = store
        .newest(true, decoded)
        .expect("a map")
        .expect("a good checkpoint");
    let is_good = format::decode::<Checkpoint>(content).is_ok();
    assert!(
        found == good(4) || (found == path && is_good),
        "{}",
        found.display()
    );
    // Whatever else there is, what was just written survives the clearing away.
    let saved = store.save(5, &encoded(5)).expect("a map");
    assert!(store.disk_mut().0.contains_key(&saved));
    is_good
}

// === Recordings ===

fn a_recording() -> Recording {
    let (agreement, unroll) = samples::a_good_unroll();
    Recording {
        agreement,
        unrolls: vec![unroll.clone(), unroll],
    }
}

pub(super) fn recordings() -> Vec<Example> {
    let bytes = write_recording(&a_recording()).expect("a small recording");
    vec![("two", bytes)]
}

/// Unrolls that are read are written and read again unchanged.
pub(super) fn recording(bytes: &[u8]) -> bool {
    let Ok(read) = read_recording(bytes) else {
        return false;
    };
    let written = write_recording(&read).expect("what was read");
    let again = read_recording(&written).expect("what was written");
    assert_eq!(again.unrolls, read.unrolls);
    true
}

// === Other files of a run ===

pub(super) fn lives() -> Vec<Example> {
    let life = Life {
        run_id: run_id(),
        epoch: LearnerEpoch(3),
    };
    vec![("third", serde_json::to_vec(&life).expect("JSON"))]
}

/// The life after the one in the file is a later one of the same run.
pub(super) fn life(bytes: &[u8]) -> bool {
    scratch::file("learner.json", bytes);
    let checkpoint = Life {
        run_id: run_id(),
        epoch: LearnerEpoch(2),
    };
    let Ok(next) = Life::next(&scratch::directory(), checkpoint) else {
        return false;
    };
    assert!(next.run_id == checkpoint.run_id && next.epoch > checkpoint.epoch);
    true
}

pub(super) fn metrics_files() -> Vec<Example> {
    let row = |n: u64| format!("{{\"global_step\":1.0,\"charts/updates\":{n}.0,\"x\":2}}\n");
    let rows: String = (1..=6).map(row).collect();
    vec![
        ("rows", rows.clone().into_bytes()),
        ("torn", (rows + "{\"charts/upd").into_bytes()),
    ]
}

/// What is left is the beginning of what was there, has whole lines, and is not cut again.
pub(super) fn metrics(bytes: &[u8]) -> bool {
    const VERSION: u64 = 4;
    let path = scratch::file("metrics.jsonl", bytes);
    cut_metrics(&path, VERSION).expect("a file that can be cut");
    let left = fs::read(&path).expect("the file");
    assert!(bytes.starts_with(&left) && (left.is_empty() || left.ends_with(b"\n")));
    assert_eq!(cut_metrics(&path, VERSION).expect("the file"), 0);
    assert_eq!(fs::read(&path).expect("the file"), left);
    !left.is_empty()
}

fn a_network() -> NetworkSpec {
    let observation = ObservationSpec::floats([3], [-1.0, 1.0]);
    let environment = EnvironmentSpec::new("E", observation, ActionSpec::Discrete(2));
    let mut network = NetworkSpec::mlp(&environment, vec![4], Activation::Tanh, true);
    network.core = CoreSpec::Gru { size: 2 };
    network
}

pub(super) fn policies() -> Vec<Example> {
    let network = a_network();
    let flat: Vec<u8> = (0..payload_bytes(&network))
        .map(|i| (i % 61) as u8)
        .collect();
    vec![(
        "small",
        write_safetensors(&flat, &network).expect("parameters that fit"),
    )]
}

/// Parameters that are read are written and read again unchanged.
pub(super) fn safetensors(bytes: &[u8]) -> bool {
    let network = a_network();
    let Ok(flat) = read_safetensors(bytes, &network) else {
        return false;
    };
    let written = write_safetensors(&flat, &network).expect("parameters that fit");
    assert_eq!(read_safetensors(&written, &network).ok(), Some(flat));
    true
}

// === Who someone is ===

const CERTIFICATE: &[u8] = include_bytes!("../../fuzz/corpus/certificate/self-signed");
const KEY: &[u8] = include_bytes!("../../fuzz/corpus/private-key/elliptic");

pub(super) fn certificates() -> Vec<Example> {
    vec![("self-signed", CERTIFICATE.to_vec())]
}

/// A chain of certificates, of which every one can be read.
pub(super) fn certificate(bytes: &[u8]) -> bool {
    credentials::read_certificates(&scratch::file("certificate.pem", bytes)).is_ok()
}

pub(super) fn labels() -> Vec<Example> {
    let der = include_bytes!("../../fuzz/corpus/certificate-label/self-signed");
    vec![("self-signed", der.to_vec())]
}

/// A label can be shown in a log.
pub(super) fn label(bytes: &[u8]) -> bool {
    let label = credentials::label(bytes);
    if let Some(label) = &label {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/@?".contains(c);
        assert!(label.chars().all(plain) && label.len() <= 64, "{label:?}");
    }
    label.is_some()
}

pub(super) fn keys() -> Vec<Example> {
    vec![("elliptic", KEY.to_vec())]
}

/// A private key.
pub(super) fn key(bytes: &[u8]) -> bool {
    credentials::read_key(&scratch::file("key.pem", bytes)).is_ok()
}

pub(super) fn token_files() -> Vec<Example> {
    let (hex, base64) = ("0123456789abcdef".repeat(4), "Ab3-".repeat(11));
    vec![(
        "two",
        format!("# the first is old\n{hex}\n\n {base64}\n").into_bytes(),
    )]
}

/// Tokens of a file and of a variable: what is taken is shown as it was written.
pub(super) fn tokens(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let variable = credentials::tokens_of_environment(Some(&text));
    let file = credentials::read_tokens(&scratch::file("token", bytes));
    let is_one = file.is_ok() || variable.is_ok();
    for token in [file, variable].into_iter().flatten().flatten() {
        assert!(token.reveal().len() >= 43 && text.contains(token.reveal()));
    }
    let _ = credentials::Token::shown(bytes).reveal();
    scratch::remove("token");
    is_one
}
