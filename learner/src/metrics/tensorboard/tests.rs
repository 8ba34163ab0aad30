//! What is in a file, and what a life of the learner does with the files of the one before.

use super::{
    event::{Event, FILE_VERSION, SESSION_START, Value, events},
    *,
};
use crate::lag::buckets::{BUCKETS, BucketSummary};

fn row(step: u64, lag: usize) -> Row {
    let mut row = Row::default();
    row.set(Metric::GlobalStep, step as f64);
    row.set(Metric::LagMean, lag as f64);
    row.set(Metric::LagMax, lag as f64);
    let mut buckets = vec![BucketSummary::default(); BUCKETS];
    buckets[lag].steps = 16;
    row.set_buckets(&buckets);
    row.ratios[12] = 15;
    row.ratios[RATIO_BUCKETS - 1] = 1;
    row
}

/// The events of all files in the folder, in the order in which TensorBoard reads them.
fn written(run_directory: &Path) -> Vec<Vec<Event>> {
    let files = std::fs::read_dir(run_directory.join(FOLDER)).unwrap();
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    let read = |path: &std::path::PathBuf| events(&std::fs::read(path).unwrap());
    paths.iter().map(read).collect()
}

fn values(event: &Event) -> &[Value] {
    event.summary.as_ref().map_or(&[], |summary| &summary.value)
}

fn of<'a>(event: &'a Event, tag: &str) -> Option<&'a Value> {
    values(event).iter().find(|value| value.tag == tag)
}

#[test]
fn every_update_is_in_a_distribution_and_the_last_one_in_the_curves() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config::default();
    let mut log = EventLog::create(directory.path(), &config, None).unwrap();
    for update in 0..500_u64 {
        log.show(&row(16 * (update + 1), 2 + usize::from(update % 2 == 0)));
    }
    log.close(true);
    let files = written(directory.path());
    let events = &files[0];
    assert_eq!(events[0].file_version.as_deref(), Some(FILE_VERSION));
    let points: Vec<_> = events
        .iter()
        .filter(|event| of(event, "global_step").is_some())
        .collect();
    assert!(
        points.len() < 500,
        "points come at most ten times a second: {}",
        points.len()
    );
    assert_eq!((points[0].step, points[points.len() - 1].step), (16, 8000));
    let scalar = of(points[0], "global_step").unwrap();
    assert_eq!(scalar.simple_value, Some(16.0));
    let described = |at: usize| of(points[at], "global_step").unwrap().metadata.clone();
    let meaning = described(0).unwrap().summary_description;
    assert_eq!(
        meaning,
        "Environment steps trained on, each once. In steps."
    );
    assert_eq!(described(1), None, "once is enough");

    let sum = |tag: &str, pick: fn(&event::Histogram) -> f64| -> f64 {
        let all = points.iter().filter_map(|point| of(point, tag));
        all.filter_map(|value| value.histo.as_ref()).map(pick).sum()
    };
    assert_eq!(sum("distributions/lag_versions", |h| h.num), 8000.0);
    assert_eq!(sum("distributions/lag_versions", |h| h.sum), 20_000.0);
    assert_eq!(sum("distributions/importance_ratio", |h| h.num), 8000.0);
    let last = points[points.len() - 1];
    let lag = of(last, "distributions/lag_versions").unwrap();
    let lag = lag.histo.as_ref().unwrap();
    assert_eq!((lag.min, lag.max), (1.5, 3.5));
    assert_eq!(lag.bucket_limit, [2.5, 3.5]);
    let ratios = of(last, "distributions/importance_ratio").unwrap();
    let ratios = ratios.histo.as_ref().unwrap();
    // Ratios of 1 are in the bucket that ends there, and what is above 8 is shown up to 16.
    assert_eq!((ratios.bucket_limit[0], ratios.max), (1.0, 16.0));
    assert_eq!(ratios.bucket.iter().sum::<f64>(), ratios.num);
    let end = events.last().unwrap();
    assert!(of(end, "_hparams_/session_end_info").is_some());
}

#[test]
fn a_resumed_run_goes_on_in_a_file_of_its_own_after_the_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config::default();
    let create = |step| EventLog::create(directory.path(), &config, step).unwrap();
    let mut first = create(None);
    first.show(&row(16, 1));
    first.show(&row(32, 1));
    drop(first);
    // The step 32 came after the checkpoint: it is made again.
    let mut second = create(Some(16));
    second.show(&row(32, 1));
    second.close(true);
    let files = written(directory.path());
    assert_eq!(files.len(), 2);
    let start = &files[1][1];
    assert_eq!(start.session_log.as_ref().unwrap().status, SESSION_START);
    assert_eq!(start.step, 17, "what was seen up to the checkpoint stands");
    assert!(files[0].iter().all(|event| event.session_log.is_none()));
    assert!(files[1][2..].iter().all(|event| event.step >= 16));
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(FOLDER), "").unwrap();
    let error = EventLog::create(directory.path(), &Config::default(), None).unwrap_err();
    assert_eq!(error.exit_code(), 74);
    assert!(error.to_string().contains("/tensorboard"), "{error}");
}
