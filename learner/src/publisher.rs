//! The publisher: a snapshot is encoded once and shared by every stream. The newest wins, except where policy lag is
//! injected: then the streams find the past versions on the shelf.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use springbok_common::{
    config::SnapshotEncoding,
    policy::FlatLayout,
    snapshot::ParameterSnapshot,
    version::{LearnerEpoch, PolicyVersion},
};
use tokio::sync::watch;

/// Follows what is published; `None` until the trainer is ready. A slow reader skips publications.
pub type Publications = watch::Receiver<Option<Shelf>>;

/// The newest snapshot and as many older ones as may be asked for.
#[derive(Debug, Clone)]
pub struct Shelf {
    /// Published versions, oldest first; never empty.
    snapshots: Arc<VecDeque<ParameterSnapshot>>,
    newest: ParameterSnapshot,
    /// Publications so far.
    number: u64,
}

impl Shelf {
    /// The newest snapshot.
    #[must_use]
    pub fn newest(&self) -> &ParameterSnapshot {
        &self.newest
    }

    /// Publications so far, this one included. A reader that knows of fewer by more than one has skipped some.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The snapshot `versions` behind the newest, or the next one after it where not every version is published; the
    /// oldest there is if there are not that many yet.
    #[must_use]
    pub fn behind(&self, versions: u64) -> &ParameterSnapshot {
        let wanted = self.newest.version().0.saturating_sub(versions);
        let at = self
            .snapshots
            .partition_point(|snapshot| snapshot.version().0 < wanted);
        self.snapshots.get(at).unwrap_or(&self.newest)
    }
}

/// Publishes snapshots of one learner's life.
#[derive(Debug)]
pub struct Publisher {
    epoch: LearnerEpoch,
    layout: u64,
    past_versions: usize,
    packing: Option<(SnapshotEncoding, FlatLayout)>,
    sender: watch::Sender<Option<Shelf>>,
}

impl Publisher {
    /// A publisher of parameters with `layout` that keeps `past_versions` besides the newest, and its first reader.
    #[must_use]
    pub fn new(epoch: LearnerEpoch, layout: u64, past_versions: usize) -> (Self, Publications) {
        let (sender, receiver) = watch::channel(None);
        let publisher = Self {
            epoch,
            layout,
            past_versions,
            packing: None,
            sender,
        };
        (publisher, receiver)
    }

    /// The same with snapshots in `encoding`, of parameters that lie as `flat` says.
    #[must_use]
    pub fn in_encoding(self, encoding: SnapshotEncoding, flat: FlatLayout) -> Self {
        Self {
            packing: Some((encoding, flat)),
            ..self
        }
    }

    /// What is on the shelf, oldest first: little-endian f32, rounded where it was published so.
    #[must_use]
    pub fn stock(&self) -> Vec<(PolicyVersion, Bytes)> {
        let shelf = self.sender.borrow();
        let snapshots = shelf.iter().flat_map(|shelf| shelf.snapshots.iter());
        snapshots
            .map(|snapshot| (snapshot.version(), self.unpacked(snapshot)))
            .collect()
    }

    fn unpacked(&self, snapshot: &ParameterSnapshot) -> Bytes {
        let payload = snapshot.payload();
        let flat = self.packing.as_ref().map(|(_, flat)| flat);
        let unpacked = flat.and_then(|flat| flat.unpack(snapshot.encoding(), payload).ok());
        unpacked.unwrap_or_else(|| payload.clone())
    }

    /// Seals `payload`, little-endian f32, as it is to travel; as it is if it is of another network than was announced.
    fn seal(&self, version: PolicyVersion, payload: Bytes) -> ParameterSnapshot {
        let packed = self.packing.as_ref().and_then(|(encoding, flat)| {
            let packed = flat.pack(*encoding, &payload).ok()?;
            Some((*encoding, packed))
        });
        let (encoding, payload) = packed.unwrap_or((SnapshotEncoding::F32, payload));
        ParameterSnapshot::seal_in(encoding, self.epoch, version, self.layout, payload)
    }

    /// Makes `payload`, little-endian f32 in layout order, the newest version. Publishing a version again wakes the
    /// readers again.
    pub fn publish(&self, version: PolicyVersion, payload: Bytes) {
        self.publish_after(Vec::new(), version, payload);
    }

    /// Puts the versions of `past`, oldest first, on the shelf and makes `payload` the newest, in one: nobody ever sees
    /// one of the past versions as the newest. Who did in lock-step would make unrolls that nobody asked for.
    pub fn publish_after(
        &self,
        past: Vec<(PolicyVersion, Bytes)>,
        version: PolicyVersion,
        payload: Bytes,
    ) {
        let newest = self.seal(version, payload);
        let (mut snapshots, number) = match self.sender.borrow().as_ref() {
            Some(shelf) => (shelf.snapshots.as_ref().clone(), shelf.number),
            None => (VecDeque::new(), 0),
        };
        snapshots.extend(
            past.into_iter()
                .map(|(version, payload)| self.seal(version, payload)),
        );
        if snapshots
            .back()
            .is_some_and(|last| last.version() == version)
        {
            snapshots.pop_back();
        }
        snapshots.push_back(newest.clone());
        while snapshots.len() > self.past_versions + 1 {
            snapshots.pop_front();
        }
        self.sender.send_replace(Some(Shelf {
            snapshots: Arc::new(snapshots),
            newest,
            number: number + 1,
        }));
    }
}

/// The version that was published last; 0 before the first.
#[must_use]
pub fn newest_version(publications: &Publications) -> PolicyVersion {
    let shelf = publications.borrow();
    shelf
        .as_ref()
        .map_or(PolicyVersion::default(), |shelf| shelf.newest().version())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(publisher: &Publisher, versions: std::ops::Range<u64>) {
        for version in versions {
            publisher.publish(PolicyVersion(version), Bytes::from(vec![version as u8; 4]));
        }
    }

    #[tokio::test]
    async fn a_slow_reader_sees_only_the_newest_version() {
        let (publisher, mut publications) = Publisher::new(LearnerEpoch::FIRST, 7, 0);
        assert!(publications.borrow().is_none());
        publish(&publisher, 0..3);
        publications.changed().await.unwrap();
        let shelf = publications.borrow_and_update().clone().unwrap();
        assert_eq!(shelf.newest().version(), PolicyVersion(2));
        assert_eq!(shelf.newest().layout(), 7);
        assert_eq!(shelf.number(), 3, "it knows that it missed two");
        assert!(!publications.has_changed().unwrap());
    }

    #[test]
    fn no_reader_ever_sees_a_restored_version_as_the_newest() {
        let (publisher, publications) = Publisher::new(LearnerEpoch::FIRST, 7, 2);
        let reader = std::thread::spawn(move || {
            loop {
                if let Some(shelf) = publications.borrow().as_ref() {
                    return shelf.clone();
                }
                std::hint::spin_loop();
            }
        });
        let payload = |version: u64| Bytes::from(vec![version as u8; 4]);
        let past = [3, 4].map(|version| (PolicyVersion(version), payload(version)));
        publisher.publish_after(past.to_vec(), PolicyVersion(5), payload(5));
        let first_seen = reader.join().unwrap();
        let behind = |versions| first_seen.behind(versions).version().0;
        assert_eq!([0, 1, 2, 3].map(behind), [5, 4, 3, 3]);
    }

    #[test]
    fn the_shelf_holds_exactly_the_versions_that_may_be_asked_for() {
        let (publisher, publications) = Publisher::new(LearnerEpoch::FIRST, 7, 3);
        let behind = |versions| {
            let shelf = publications.borrow().clone().unwrap();
            let snapshot = shelf.behind(versions).clone();
            assert_eq!(snapshot.payload()[0], snapshot.version().0 as u8);
            snapshot.version().0
        };
        publish(&publisher, 0..2);
        // There is nothing older than version 0.
        assert_eq!([0, 1, 2, 3].map(behind), [1, 0, 0, 0]);
        publish(&publisher, 2..10);
        // A version that is published again takes no second place.
        publish(&publisher, 9..10);
        assert_eq!([0, 1, 2, 3, 4].map(behind), [9, 8, 7, 6, 6]);
    }

    #[test]
    fn rounded_snapshots_are_half_as_long_and_are_stocked_as_they_act() {
        let exact: Bytes = [1.0_f32, 0.1, -3.0]
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        let (publisher, publications) = Publisher::new(LearnerEpoch::FIRST, 7, 0);
        let publisher = publisher.in_encoding(SnapshotEncoding::Bf16, FlatLayout::weights(3));
        publisher.publish(PolicyVersion(4), exact.clone());
        let sealed = publications.borrow().clone().unwrap().newest().clone();
        assert_eq!(sealed.encoding(), SnapshotEncoding::Bf16);
        assert_eq!(sealed.payload().len(), 6);
        let stock = publisher.stock();
        assert_ne!(stock[0].1, exact, "0.1 is none of the rounded numbers");
        // What is restored from a checkpoint acts as it did.
        publisher.publish(PolicyVersion(5), stock[0].1.clone());
        let again = publications.borrow().clone().unwrap().newest().clone();
        assert_eq!(again.payload(), sealed.payload());
    }
}
