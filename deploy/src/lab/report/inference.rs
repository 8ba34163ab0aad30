//! Who acts, the actors or the learner: when each wins.

use super::{
    super::{
        INFERENCE_KEY,
        curve::statistics,
        rows::{Row, Run, axes},
    },
    groups::{Groups, Quantity},
    plot::{Bar, Bars, scale::label},
};

/// What is compared, and whether more of it is better; of the others only the numbers are told.
const COMPARED: [(&str, Quantity, Option<bool>); 6] = [
    (
        "trained steps/s",
        |row| row.measured.trained_steps_per_s,
        Some(true),
    ),
    (
        "return at equal time",
        |row| row.equal.return_at_wall_s,
        Some(true),
    ),
    ("mean lag", |row| row.measured.lag.mean, Some(false)),
    ("effective sample size", |row| row.measured.ess, Some(true)),
    ("bytes a step", bytes, Some(false)),
    ("largest lag", |row| row.measured.lag.max, None),
];
/// Medians nearer than this are called equal.
const EQUAL_WITHIN: f64 = 0.02;

/// Where both were tried and all else was the same: the medians over the seeds, and who wins at what. Pixels and large
/// networks decide differently, so each combination has its own sentence.
pub(super) fn findings(runs: &[Run]) -> Vec<String> {
    let done: Vec<&Row> = runs
        .iter()
        .map(|run| &run.row)
        .filter(|row| row.is_done())
        .collect();
    let mut others: Vec<Vec<(&str, &str)>> = Vec::new();
    for row in &done {
        let elsewhere = elsewhere(row);
        if !others.contains(&elsewhere) {
            others.push(elsewhere);
        }
    }
    let sentences = others.iter().filter_map(|settings| {
        let of = |place: &str| -> Vec<&Row> {
            let rows = done.iter().copied();
            let chosen = rows.filter(|row| row.setting(INFERENCE_KEY) == place);
            chosen.filter(|row| elsewhere(row) == *settings).collect()
        };
        sentence(settings, &of("local"), &of("central"))
    });
    sentences.collect()
}

/// All other settings of a row.
fn elsewhere(row: &Row) -> Vec<(&str, &str)> {
    let axes = axes([row]).into_iter();
    axes.filter(|axis| *axis != INFERENCE_KEY)
        .map(|axis| (axis, row.setting(axis)))
        .collect()
}

fn sentence(settings: &[(&str, &str)], local: &[&Row], central: &[&Row]) -> Option<String> {
    let median = |rows: &[&Row], quantity: Quantity| {
        let values: Vec<f64> = rows.iter().filter_map(|row| quantity(row)).collect();
        Some(statistics(&values)?.median)
    };
    let (mut numbers, mut wins) = (Vec::new(), [Vec::new(), Vec::new()]);
    for (name, quantity, more_is_better) in COMPARED {
        let (Some(here), Some(there)) = (median(local, quantity), median(central, quantity)) else {
            continue;
        };
        numbers.push(format!("{name} {} : {}", label(here), label(there)));
        let apart = (here - there).abs() > EQUAL_WITHIN * here.abs().max(there.abs());
        if let Some(more_is_better) = more_is_better.filter(|_| apart) {
            wins[usize::from((there > here) == more_is_better)].push(name);
        }
    }
    if numbers.is_empty() {
        return None;
    }
    let settings: Vec<String> = settings
        .iter()
        .map(|(axis, value)| format!("{axis} {value}"))
        .collect();
    let place = match settings.as_slice() {
        [] => String::new(),
        settings => format!(" at {}", settings.join(", ")),
    };
    let [local, central] = wins.map(|wins| match wins.as_slice() {
        [] => "nothing".to_owned(),
        wins => wins.join(", "),
    });
    let numbers = numbers.join("; ");
    Some(format!(
        "Local against central inference{place}: {numbers}. Local wins at {local}; central at {central}."
    ))
}

/// Bytes over the learner's connections for each step, both ways.
fn bytes(row: &Row) -> Option<f64> {
    let [up, down] = row.measured.bytes_per_step();
    Some(up? + down?)
}

/// What a step costs the network.
pub(super) fn network(groups: &Groups) -> Bars {
    let bars = groups.groups.iter().map(|group| {
        let bytes = |at: usize| group.median(|measured| measured.bytes_per_step()[at]);
        let parts = [bytes(0), bytes(1)];
        let all: Option<f64> = parts.iter().copied().sum();
        Bar {
            name: groups.brief(group),
            parts: parts.to_vec(),
            note: all.map_or(String::new(), label),
        }
    });
    Bars {
        label: "bytes for each environment step".to_owned(),
        parts: ["to the learner", "to the actors"]
            .map(str::to_owned)
            .to_vec(),
        bars: bars.collect(),
        reach: 0.0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{
        super::super::rows::{Status, tests::run},
        *,
    };

    /// A run of 100 steps with so many steps each second, so much lag and so many bytes each way.
    fn measured(settings: &[(&str, &str)], seed: u64, speed: f64, lag: f64, bytes: f64) -> Run {
        let mut run = run(settings, seed, 100, 1.0);
        let measured = &mut run.row.measured;
        measured.trained_steps_per_s = Some(speed);
        measured.lag.mean = Some(lag);
        measured.network.received_bytes = Some(100.0 * bytes);
        measured.network.sent_bytes = Some(100.0 * bytes);
        run
    }

    #[test]
    fn each_wins_where_it_is_better_and_only_like_is_compared_with_like() {
        let mut runs = Vec::new();
        for seed in [1, 2, 3] {
            let nudge = seed as f64 / 100.0;
            for (count, speed) in [("1", 500.0), ("4", 2000.0)] {
                let at = |place| [("actor.count", count), (INFERENCE_KEY, place)];
                runs.push(measured(&at("local"), seed, 1000.0 + nudge, 2.0, 50.0));
                runs.push(measured(&at("central"), seed, speed + nudge, 0.5, 50.5));
            }
        }
        // One without its counterpart, and one that failed.
        let alone = [("actor.count", "9"), (INFERENCE_KEY, "local")];
        runs.push(measured(&alone, 1, 1.0, 1.0, 1.0));
        runs.push(measured(&alone, 1, 1.0, 1.0, 1.0));
        let last = runs.len() - 1;
        let counterpart = Value::from("central");
        runs[last]
            .row
            .settings
            .insert(INFERENCE_KEY.to_owned(), counterpart);
        runs[last].row.status = Status::Failed;
        let found = findings(&runs);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with(
            "Local against central inference at actor.count 1: trained steps/s 1000 : 500; "
        ));
        assert!(found[0].contains("bytes a step 100 : 101"), "{}", found[0]);
        assert!(
            found[0].ends_with("Local wins at trained steps/s; central at mean lag."),
            "{}",
            found[0]
        );
        assert!(found[1].ends_with("Local wins at nothing; central at trained steps/s, mean lag."));
        let groups = Groups::new(&runs);
        let bars = network(&groups);
        assert_eq!(bars.bars[0].parts, [Some(50.0), Some(50.0)]);
        assert_eq!(bars.bars[0].note, "100");
    }
}
