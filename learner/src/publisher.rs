//! The publisher: a snapshot is encoded once, shared by every stream, and the newest wins.

use bytes::Bytes;
use springbok_common::{
    snapshot::ParameterSnapshot,
    version::{LearnerEpoch, PolicyVersion},
};
use tokio::sync::watch;

/// Follows the newest snapshot; `None` until the trainer is ready. A slow reader skips versions.
pub type Publications = watch::Receiver<Option<ParameterSnapshot>>;

/// Publishes snapshots of one learner's life.
#[derive(Debug)]
pub struct Publisher {
    epoch: LearnerEpoch,
    layout: u64,
    sender: watch::Sender<Option<ParameterSnapshot>>,
}

impl Publisher {
    /// A publisher of parameters with `layout`, and its first reader.
    #[must_use]
    pub fn new(epoch: LearnerEpoch, layout: u64) -> (Self, Publications) {
        let (sender, receiver) = watch::channel(None);
        let publisher = Self {
            epoch,
            layout,
            sender,
        };
        (publisher, receiver)
    }

    /// Makes `payload`, little-endian f32 in layout order, the newest version.
    pub fn publish(&self, version: PolicyVersion, payload: Bytes) {
        let snapshot = ParameterSnapshot::seal(self.epoch, version, self.layout, payload);
        self.sender.send_replace(Some(snapshot));
    }
}

/// The version that was published last; 0 before the first.
#[must_use]
pub fn newest_version(publications: &Publications) -> PolicyVersion {
    let newest = publications.borrow();
    newest
        .as_ref()
        .map_or(PolicyVersion::default(), ParameterSnapshot::version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_reader_sees_only_the_newest_version() {
        let (publisher, mut publications) = Publisher::new(LearnerEpoch::FIRST, 7);
        assert!(publications.borrow().is_none());
        for version in 0..3 {
            publisher.publish(PolicyVersion(version), Bytes::from_static(&[0; 4]));
        }
        publications.changed().await.unwrap();
        let newest = publications.borrow_and_update().clone().unwrap();
        assert_eq!(newest.version(), PolicyVersion(2));
        assert_eq!(newest.layout(), 7);
        assert!(!publications.has_changed().unwrap());
    }
}
