//! A disk that forgets: what was not forced onto it may be lost, torn or zeroed when the machine stops, at any operation.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use super::{
    disk::Disk,
    format::{self, Header},
    store::{Retention, Store, file_name},
};

const FOLDER: &str = "/run/checkpoints";
const RETENTION: Retention = Retention {
    keep_last: 2,
    keep_best: true,
};

/// What a dishonest disk leaves out.
#[derive(Clone, Copy, PartialEq)]
enum Syncs {
    All,
    NotFiles,
    NotDirectories,
}

/// A file: what is on the disk for good, and what a reader sees.
#[derive(Clone, Default)]
struct Inode {
    durable: Vec<u8>,
    seen: Vec<u8>,
}

#[derive(Clone)]
enum NameChange {
    Link(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Unlink(PathBuf),
}

/// The simulated disk. From operation `stops_at` on, the machine is off.
struct ForgetfulDisk {
    inodes: Vec<Inode>,
    durable_names: BTreeMap<PathBuf, usize>,
    names: BTreeMap<PathBuf, usize>,
    changes: Vec<NameChange>,
    syncs: Syncs,
    operations: u64,
    stops_at: u64,
    /// This operation fails, as on a full disk, and the machine goes on.
    fails_at: Option<u64>,
}

fn apply(names: &mut BTreeMap<PathBuf, usize>, change: &NameChange) {
    match change {
        NameChange::Link(path, inode) => {
            names.insert(path.clone(), *inode);
        }
        NameChange::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
        NameChange::Unlink(path) => {
            names.remove(path);
        }
    }
}

impl ForgetfulDisk {
    fn new(syncs: Syncs) -> Self {
        Self {
            inodes: Vec::new(),
            durable_names: BTreeMap::new(),
            names: BTreeMap::new(),
            changes: Vec::new(),
            syncs,
            operations: 0,
            stops_at: u64::MAX,
            fails_at: None,
        }
    }

    fn operate(&mut self) -> io::Result<()> {
        self.operations += 1;
        if self.operations > self.stops_at {
            return Err(io::Error::other("the machine is off"));
        }
        if self.fails_at == Some(self.operations) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(())
    }

    fn change(&mut self, change: NameChange) {
        apply(&mut self.names, &change);
        self.changes.push(change);
    }

    fn inode(&mut self, path: &Path) -> io::Result<&mut Inode> {
        let inode = *self.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(&mut self.inodes[inode])
    }

    /// The disk after the machine stopped and was started again.
    fn after_power_loss(&self, rng: &mut Pcg64) -> Self {
        let mut names = self.durable_names.clone();
        for change in &self.changes {
            if rng.random_bool(0.5) {
                apply(&mut names, change);
            }
        }
        let survives = |inode: &Inode, rng: &mut Pcg64| {
            let mut content = match rng.random_range(0..4_u8) {
                0 => inode.durable.clone(),
                1 => inode.seen.clone(),
                _ => {
                    let (least, most) = (inode.durable.len(), inode.seen.len());
                    inode.seen[..rng.random_range(least.min(most)..=most)].to_vec()
                }
            };
            if rng.random_bool(0.3) {
                // The length is there and the blocks are not.
                let durable = inode.durable.len().min(content.len());
                content[durable..].fill(0);
            }
            content
        };
        let mut inodes = Vec::new();
        for inode in &self.inodes {
            let content = survives(inode, rng);
            inodes.push(Inode {
                durable: content.clone(),
                seen: content,
            });
        }
        Self {
            inodes,
            durable_names: names.clone(),
            names,
            ..Self::new(self.syncs)
        }
    }
}

impl Disk for ForgetfulDisk {
    fn create(&mut self, path: &Path) -> io::Result<()> {
        self.operate()?;
        self.inodes.push(Inode::default());
        self.change(NameChange::Link(path.to_owned(), self.inodes.len() - 1));
        Ok(())
    }

    fn append(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.operate()?;
        self.inode(path)?.seen.extend_from_slice(content);
        Ok(())
    }

    fn sync_file(&mut self, path: &Path) -> io::Result<()> {
        self.operate()?;
        if self.syncs != Syncs::NotFiles {
            let inode = self.inode(path)?;
            inode.durable = inode.seen.clone();
        }
        Ok(())
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.operate()?;
        self.change(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn sync_directory(&mut self, _: &Path) -> io::Result<()> {
        self.operate()?;
        if self.syncs != Syncs::NotDirectories {
            self.durable_names = self.names.clone();
            self.changes.clear();
        }
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.operate()?;
        self.change(NameChange::Unlink(path.to_owned()));
        Ok(())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let inode = self.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.inodes[*inode].seen.clone())
    }

    fn read_start(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        let mut content = self.read(path)?;
        content.truncate(bytes_max);
        Ok(content)
    }

    fn list(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.names.keys().cloned().collect())
    }
}

fn checkpoint(version: u64, mean_return: Option<f64>) -> Vec<u8> {
    let header = Header {
        epoch: 1,
        version,
        mean_return,
    };
    format::encode(&header, &vec![version; 100]).unwrap()
}

fn store(disk: ForgetfulDisk) -> Store<ForgetfulDisk> {
    Store::new(disk, FOLDER.into(), RETENTION)
}

fn newest(store: &mut Store<ForgetfulDisk>) -> Option<u64> {
    let decoded = |found: &super::store::Found| {
        format::decode::<Vec<u64>>(&found.bytes).map(|(_, content)| content[0])
    };
    store
        .newest(true, decoded)
        .unwrap()
        .map(|(_, version)| version)
}

/// Saves up to eight checkpoints until the machine stops at a random operation; says what was acknowledged last and what
/// is found after the machine was started again, and again after a second life has saved one more.
fn crash_point(seed: u64, syncs: Syncs) -> (Option<u64>, Option<u64>) {
    let mut rng = Pcg64::seed_from_u64(seed);
    let mut disk = ForgetfulDisk::new(syncs);
    disk.stops_at = rng.random_range(1..60);
    disk.fails_at = rng.random_bool(0.3).then(|| rng.random_range(1..60));
    let mut store = store(disk);
    let mut acknowledged = None;
    for version in 1..=8 {
        let value = rng.random_bool(0.7).then(|| rng.random_range(0.0..500.0));
        if store.save(version, &checkpoint(version, value)).is_ok() {
            acknowledged = Some(version);
        }
    }
    let rebooted = store.disk_mut().after_power_loss(&mut rng);
    let mut second = self::store(rebooted);
    let found = newest(&mut second);
    // The next life goes on from there, whatever was left lying about.
    let next = found.unwrap_or(0) + 1;
    second.save(next, &checkpoint(next, None)).unwrap();
    assert_eq!(newest(&mut second), Some(next), "seed {seed}");
    (acknowledged, found)
}

#[test]
fn after_1000_power_losses_the_newest_acknowledged_checkpoint_is_there() {
    let (mut some, mut none) = (0, 0);
    for seed in 0..1000 {
        let (acknowledged, found) = crash_point(seed, Syncs::All);
        assert!(
            found >= acknowledged,
            "seed {seed}: {acknowledged:?} {found:?}"
        );
        // One that was complete and not acknowledged yet may be there too, never two.
        let ahead = found.unwrap_or(0) - acknowledged.unwrap_or(0);
        assert!(ahead <= 2, "seed {seed}: {acknowledged:?} {found:?}");
        some += u32::from(acknowledged.is_some());
        none += u32::from(acknowledged.is_none());
    }
    assert!(some > 500 && none > 20, "{some} {none}");
}

#[test]
fn a_disk_that_leaves_out_one_kind_of_forcing_is_caught() {
    for syncs in [Syncs::NotFiles, Syncs::NotDirectories] {
        let lost = (0..1000).filter(|seed| {
            let (acknowledged, found) = crash_point(*seed, syncs);
            found < acknowledged
        });
        assert!(lost.count() > 20);
    }
}

#[test]
fn the_newest_the_best_and_nothing_else_are_kept() {
    let mut store = store(ForgetfulDisk::new(Syncs::All));
    let leftover = Path::new(FOLDER).join(".tmp-1-1");
    store.disk_mut().create(&leftover).unwrap();
    for (version, value) in [(1, 5.0), (2, 9.0), (3, 1.0), (4, 2.0), (5, 3.0)] {
        store
            .save(version, &checkpoint(version, Some(value)))
            .unwrap();
    }
    let kept: Vec<PathBuf> = [2, 4, 5]
        .map(|version| Path::new(FOLDER).join(file_name(version)))
        .into();
    assert_eq!(store.disk_mut().list(Path::new(FOLDER)).unwrap(), kept);
}

#[test]
fn a_full_disk_leaves_the_last_checkpoint_and_no_litter() {
    let mut store = store(ForgetfulDisk::new(Syncs::All));
    store.save(1, &checkpoint(1, None)).unwrap();
    let used = store.disk_mut().operations;
    for operation in 1..=6 {
        let disk = store.disk_mut();
        disk.fails_at = Some(disk.operations + operation);
        store.save(2, &checkpoint(2, None)).unwrap_err();
        // The name may be there if only forcing it failed; then it is as good as the first.
        let files = store.disk_mut().list(Path::new(FOLDER)).unwrap();
        assert!(
            files
                .iter()
                .all(|file| !file.to_string_lossy().contains(".tmp"))
        );
        assert!(newest(&mut store) >= Some(1));
    }
    assert!(used > 0);
}
