//! A status in words.

use std::fmt::Write as _;

use springbok_learner::{
    metrics::Metric,
    monitor::status::{Phase, Status},
};

use crate::figures::{CAUSES, percent, shown};

/// Actors that are listed in a terminal.
const ACTORS_SHOWN_MAX: usize = 16;

/// The status as a table of two columns, and a table of actors.
pub(super) fn in_words(status: &Status) -> String {
    let mut text = String::new();
    let lines = [
        ("run", run(status)),
        ("progress", progress(status)),
        ("throughput", throughput(status)),
        ("lag", lag(status)),
        ("causes", causes(status)),
        ("health", health(status)),
        ("bottleneck", status.bottleneck.clone()),
        ("ledger", ledger(status)),
        ("actors", lives(status)),
    ];
    for (name, value) in lines {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "{name:<11} {value}");
    }
    actors(status, &mut text);
    text
}

fn run(status: &Status) -> String {
    let (run, phase) = (&status.run, status.phase.as_str());
    let silent = match (status.phase, status.last_update_s) {
        (Phase::Serving, Some(seconds)) if seconds >= 1.0 => {
            format!(", last update {seconds:.0} s ago")
        }
        _ => String::new(),
    };
    format!(
        "{phase}{silent}: {} seed {} on {} (run {})",
        run.environment, run.seed, run.device, run.run_id
    )
}

fn progress(status: &Status) -> String {
    let steps = status.metric(Metric::GlobalStep).unwrap_or(0.0);
    let share = 100.0 * steps / status.run.total_steps.max(1) as f64;
    format!(
        "{steps:.0} of {} steps ({share:.1} %), {} updates, {} s; return {} over the last 100 of {} episodes",
        status.run.total_steps,
        shown(status, Metric::Updates, 0),
        shown(status, Metric::WallSeconds, 0),
        shown(status, Metric::EpisodicReturn, 1),
        shown(status, Metric::Episodes, 0),
    )
}

fn throughput(status: &Status) -> String {
    format!(
        "{} steps/s trained since the start; an update takes {} s; queue {} %",
        shown(status, Metric::StepsPerSecond, 0),
        shown(status, Metric::UpdateSeconds, 4),
        percent(status, Metric::QueueFill),
    )
}

fn lag(status: &Status) -> String {
    format!(
        "mean {} versions (predicted {}), p95 {}, largest {}; {} s old",
        shown(status, Metric::LagMean, 2),
        shown(status, Metric::LagPredicted, 2),
        shown(status, Metric::LagP95, 0),
        shown(status, Metric::LagMax, 0),
        shown(status, Metric::LagSeconds, 3),
    )
}

fn causes(status: &Status) -> String {
    let causes = CAUSES.map(|(name, metric)| format!("{name} {}", shown(status, metric, 2)));
    causes.join(", ")
}

fn health(status: &Status) -> String {
    format!(
        "effective sample size {} %, clipped {} %, ratios cut at rho_bar {} %",
        percent(status, Metric::Ess),
        percent(status, Metric::ClipFraction),
        percent(status, Metric::RhoSaturation),
    )
}

fn ledger(status: &Status) -> String {
    let ledger = &status.ledger;
    let closes = if status.ledger_closes {
        "closes"
    } else {
        "DOES NOT CLOSE"
    };
    let accounts = [
        ("trained", ledger.trained),
        ("queued", ledger.queued),
        ("rejected", ledger.rejected),
        ("lost", ledger.lost),
        ("expired", ledger.expired),
        ("evicted", ledger.evicted),
        ("discarded", ledger.discarded),
    ];
    let accounts: String = accounts
        .iter()
        .filter(|(_, unrolls)| *unrolls > 0)
        .map(|(name, unrolls)| format!(", {unrolls} {name}"))
        .collect();
    format!("{closes}: {} unrolls produced{accounts}", ledger.produced)
}

fn lives(status: &Status) -> String {
    format!(
        "{} present, {} joined so far, {} lost",
        status.present, status.lives.joined, status.lives.lost
    )
}

fn actors(status: &Status, text: &mut String) {
    if status.actors.is_empty() {
        return;
    }
    let _ = writeln!(
        text,
        "\n{:>8} {:>10} {:>8} {:>10} {:>10} {:>10}",
        "actor", "version", "behind", "unrolls", "unrolls/s", "last seen"
    );
    for actor in status.actors.iter().take(ACTORS_SHOWN_MAX) {
        let seen = format!("{:.1} s", actor.last_seen_s);
        let _ = writeln!(
            text,
            "{:>8} {:>10} {:>8} {:>10} {:>10.2} {seen:>10}",
            actor.actor, actor.version, actor.lag_versions, actor.unrolls, actor.unrolls_per_s
        );
    }
    let more = status.present as usize;
    let more = more.saturating_sub(status.actors.len().min(ACTORS_SHOWN_MAX));
    if more > 0 {
        let _ = writeln!(text, "{:>8} more", more);
    }
}
