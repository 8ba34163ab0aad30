//! What came of a run: in words, or as the summary's JSON.

use std::{fmt::Write as _, path::Path};

use springbok_learner::Summary;

use crate::output;

/// Actors that were started again.
pub(crate) enum Restarts {
    /// By this launcher.
    Counted(u64),
    /// The actors of this run are someone else's.
    NotOurs,
}

/// Prints the end of a run to stdout.
pub(crate) fn print(summary: &Summary, run_directory: &Path, restarts: Restarts, json: bool) {
    if json {
        output::json(summary);
    } else {
        output::line(in_words(summary, run_directory, &restarts).trim_end());
    }
}

fn in_words(summary: &Summary, run_directory: &Path, restarts: &Restarts) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(text, "{}: {}", summary.environment, outcome(summary));
    let again = match summary.reused_steps {
        0 => String::new(),
        steps => format!(" and {steps} again"),
    };
    let _ = writeln!(
        text,
        "{} environment steps, {} trained{again} in {} updates, {:.1} s on {} ({:.0} steps/s)",
        summary.env_steps,
        summary.trained_steps,
        summary.updates,
        summary.wall_s,
        summary.device,
        summary.trained_steps_per_s,
    );
    let _ = writeln!(
        text,
        "policy lag: mean {:.2}{}, p95 {:.0}, largest {:.0} versions ({:.2} s old); bottleneck: {}",
        summary.lag.mean,
        predicted(summary),
        summary.lag.p95,
        summary.lag.max,
        summary.lag.seconds,
        summary.bottleneck,
    );
    let _ = writeln!(text, "{}", ledger(summary));
    if let Some(resumed) = &summary.resumed {
        let lost = match resumed.updates_lost {
            Some(0) | None => String::new(),
            Some(updates) => format!("; {updates} later updates were lost"),
        };
        let _ = writeln!(
            text,
            "resumed from update {} (life {} of the learner){lost}",
            resumed.from_update, resumed.epoch
        );
    }
    let _ = writeln!(text, "{}", actors(summary, restarts));
    let _ = writeln!(text, "written to {}:", run_directory.display());
    for file in [
        "summary.json",
        "metrics.jsonl",
        "policy.safetensors",
        "config.toml",
        "checkpoints",
    ] {
        let path = run_directory.join(file);
        if path.exists() {
            let _ = writeln!(text, "  {}", path.display());
        }
    }
    text
}

fn outcome(summary: &Summary) -> String {
    if let Some(threshold) = &summary.threshold {
        return format!(
            "mean return of {} reached after {} steps and {:.1} s",
            threshold.mean_return, threshold.env_steps, threshold.wall_s
        );
    }
    match (summary.return_mean_100, summary.return_best_100) {
        (Some(last), Some(best)) => format!(
            "mean return {last:.1} over the last 100 of {} episodes (best {best:.1})",
            summary.episodes
        ),
        (Some(last), None) => format!("mean return {last:.1} over {} episodes", summary.episodes),
        (None, _) => "no episode has ended".to_owned(),
    }
}

fn ledger(summary: &Summary) -> String {
    let ledger = &summary.ledger;
    if let Err(violation) = ledger.check() {
        return format!("ledger: DOES NOT CLOSE: {violation}");
    }
    let mut text = format!(
        "ledger: closes; of {} unrolls {} were trained",
        ledger.produced, ledger.trained
    );
    let others = [
        (ledger.rejected, "rejected"),
        (ledger.expired, "expired"),
        (ledger.evicted, "evicted"),
        (ledger.discarded, "discarded at the end"),
        (ledger.queued, "still queued"),
        (ledger.lost, "lost"),
    ];
    for (count, what) in others.into_iter().filter(|(count, _)| *count > 0) {
        let _ = write!(text, ", {count} {what}");
    }
    text
}

/// The predicted lag, and why the measured one is another if it is.
fn predicted(summary: &Summary) -> String {
    let Some(prediction) = &summary.lag_predicted else {
        return String::new();
    };
    let cause = prediction.cause.as_deref();
    let cause = cause.map_or(String::new(), |cause| format!(": {cause}"));
    format!(" (predicted {:.2}{cause})", prediction.versions)
}

fn actors(summary: &Summary, restarts: &Restarts) -> String {
    let actors = &summary.actors;
    let mut text = format!("actors: {} joined, {} lost", actors.joined, actors.lost);
    if let Restarts::Counted(restarts) = restarts {
        let _ = write!(text, ", {restarts} restarted");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use springbok_common::ids::RunId;
    use springbok_learner::{
        lag::predict::{LagPrediction, Regime},
        ledger::LedgerCounts,
        quarantine::QuarantineSummary,
        roster::ActorCounts,
        summary::Threshold,
    };

    use super::*;

    fn summary() -> Summary {
        Summary {
            run_id: RunId::random(),
            environment: "Catch".into(),
            device: "CPU".into(),
            seed: 1,
            env_steps: 2048,
            trained_steps: 1024,
            reused_steps: 0,
            epoch: 1,
            resumed: None,
            checkpoints: Default::default(),
            updates: 1,
            updates_rolled_back: 0,
            wall_s: 2.0,
            env_steps_per_s: 1024.0,
            trained_steps_per_s: 512.0,
            episodes: 0,
            return_mean_100: None,
            return_best_100: None,
            threshold: None,
            lag: Default::default(),
            lag_causes: Default::default(),
            lag_cause_seconds: Default::default(),
            lag_buckets: vec![],
            lag_forward: 0.0,
            lag_predicted: None,
            steering: Default::default(),
            bias_audit: Default::default(),
            alarms: Default::default(),
            ess: None,
            clip_fraction: None,
            ledger: LedgerCounts {
                produced: 4,
                admitted: 3,
                rejected: 1,
                trained: 2,
                discarded: 1,
                ..LedgerCounts::default()
            },
            rejected: BTreeMap::new(),
            ledger_imbalance: 0,
            quarantine: QuarantineSummary::default(),
            traffic: Default::default(),
            actors: ActorCounts {
                joined: 3,
                left: 2,
                lost: 1,
                replaced: 1,
            },
            network: Default::default(),
            inference: None,
            time: Default::default(),
            bottleneck: "balanced".into(),
        }
    }

    #[test]
    fn the_words_say_what_was_learned_and_where_it_is() {
        let mut summary = summary();
        let directory = tempfile::tempdir().unwrap();
        let words = |summary: &Summary| in_words(summary, directory.path(), &Restarts::Counted(1));
        assert!(words(&summary).contains("Catch: no episode has ended"));
        assert!(words(&summary).contains("3 joined, 1 lost, 1 restarted"));

        assert!(words(&summary).contains("policy lag: mean 0.00, p95"));

        summary.lag_predicted = Some(LagPrediction {
            versions: 2.5,
            regime: Regime::LearnerBound,
            rho: 2.0,
            agrees: false,
            cause: Some("unrolls wait".into()),
        });
        let predicted = "mean 0.00 (predicted 2.50: unrolls wait), p95";
        assert!(words(&summary).contains(predicted));

        summary.threshold = Some(Threshold {
            mean_return: 0.9,
            env_steps: 1000,
            wall_s: 1.5,
        });
        std::fs::write(directory.path().join("summary.json"), "{}").unwrap();
        let text = words(&summary);
        assert!(text.contains("mean return of 0.9 reached after 1000 steps and 1.5 s"));
        assert!(text.contains("summary.json"));
        assert!(!text.contains("policy.safetensors"));
    }

    #[test]
    fn a_ledger_that_does_not_close_is_not_passed_over() {
        let mut summary = summary();
        assert_eq!(
            ledger(&summary),
            "ledger: closes; of 4 unrolls 2 were trained, 1 rejected, 1 discarded at the end"
        );
        summary.ledger.produced = 5;
        assert!(ledger(&summary).contains("DOES NOT CLOSE"));
    }
}
