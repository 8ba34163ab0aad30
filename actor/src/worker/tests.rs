//! What of the parameters that arrive is news to an unroll in the making.

use bytes::Bytes;
use springbok_common::version::{LearnerEpoch, PolicyVersion};

use super::*;

fn published(run: u8, epoch: u32, version: u64) -> Option<Published> {
    let (epoch, version) = (LearnerEpoch(epoch), PolicyVersion(version));
    Some(Published {
        run_id: RunId::from_bytes(&[run; 16])?,
        snapshot: ParameterSnapshot::seal(epoch, version, 0, Bytes::new()),
        served: Served::default(),
        received: Instant::now(),
    })
}

/// What an unroll that was begun with version 5 of life 2 of run 1 makes of these arrivals.
fn heard(refresh: Refresh, arrivals: &[(u8, u32, u64)]) -> Vec<Option<u64>> {
    let (cell, mut parameters) = watch::channel(published(1, 2, 5));
    let loaded = parameters.borrow_and_update().clone();
    let mut news = News {
        loaded,
        parameters: &mut parameters,
        refresh,
        stop: &AtomicBool::new(false),
    };
    assert!(news.newer().is_none(), "what was loaded is no news");
    let mut hear = |(run, epoch, version)| {
        cell.send_replace(published(run, epoch, version));
        let newer = news.newer().map(|snapshot| snapshot.version().0);
        assert!(news.newer().is_none(), "told once");
        newer
    };
    arrivals.iter().map(|arrival| hear(*arrival)).collect()
}

#[test]
fn newer_parameters_of_the_same_life_are_news_once_and_nothing_else_is() {
    let arrivals = [
        (1, 2, 6),
        (1, 2, 6),
        (1, 2, 5),
        (1, 3, 9),
        (2, 2, 9),
        (1, 2, 8),
    ];
    let expected = [Some(6), None, None, None, None, Some(8)];
    assert_eq!(heard(Refresh::Step, &arrivals), expected);
    assert_eq!(heard(Refresh::Unroll, &arrivals), [None; 6]);
}
