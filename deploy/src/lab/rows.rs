//! One row per run: `results.jsonl` and `results.csv`. Pure.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    curve::Curve,
    measured::{CAUSES, Measured, words},
};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// It did all that it was asked to do.
    Done,
    /// It did not; the row says why.
    Failed,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// Where all runs of the grid can be compared, and the return of one of them there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Equal {
    /// Environment steps that every run has made.
    pub(crate) env_steps: Option<f64>,
    /// Seconds that every run has trained for.
    pub(crate) wall_s: Option<f64>,
    /// Return when that many environment steps had been made.
    pub(crate) return_at_env_steps: Option<f64>,
    /// Return when that much time had passed.
    pub(crate) return_at_wall_s: Option<f64>,
}

/// What came of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Name of the cell, and of its directory below `runs/`.
    pub(crate) cell: String,
    /// (axis, label) in the order of the axes.
    pub(crate) settings: Map<String, Value>,
    /// `run.seed`.
    pub(crate) seed: u64,
    /// How it ended.
    pub(crate) status: Status,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// Differs when any effective value of the configuration does.
    #[serde(default)]
    pub(crate) config_hash: String,
    /// Version of this program.
    #[serde(default)]
    pub(crate) version: String,
    /// The machine.
    #[serde(default)]
    pub(crate) host: String,
    /// Returns where all runs can be compared.
    #[serde(default)]
    pub(crate) equal: Equal,
    /// What it measured.
    #[serde(default)]
    pub(crate) measured: Measured,
}

/// A row, and how the run got there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Run {
    /// What came of it.
    pub(crate) row: Row,
    /// How it went.
    pub(crate) curve: Curve,
    /// Its configuration: (key, value as TOML).
    pub(crate) config: Vec<(String, String)>,
}

impl Row {
    /// The label of an axis; empty if the run has no such axis.
    pub(crate) fn setting(&self, axis: &str) -> &str {
        self.settings
            .get(axis)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// Whether the run did all that it was asked to do.
    pub(crate) fn is_done(&self) -> bool {
        self.status == Status::Done
    }
}

/// All axes of `rows`, in the order in which they first appear.
pub(crate) fn axes<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Vec<&'a str> {
    let mut axes: Vec<&str> = Vec::new();
    for key in rows.into_iter().flat_map(|row| row.settings.keys()) {
        if !axes.contains(&key.as_str()) {
            axes.push(key);
        }
    }
    axes
}

/// Finds where all finished runs can be compared (the shortest of them that was not ended by its success decides) and
/// notes the returns there.
pub(crate) fn equalise(runs: &mut [Run]) {
    let shortest = |value: fn(&Measured) -> f64| {
        let done = || runs.iter().map(|run| &run.row).filter(|row| row.is_done());
        let whole = done().filter(|row| row.measured.threshold.is_none());
        let least = |rows: &mut dyn Iterator<Item = &Row>| {
            rows.map(|row| value(&row.measured))
                .filter(|value| value.is_finite())
                .min_by(f64::total_cmp)
        };
        least(&mut whole.into_iter()).or_else(|| least(&mut done()))
    };
    let env_steps = shortest(|measured| measured.env_steps as f64);
    let wall_s = shortest(|measured| measured.wall_s);
    for run in runs.iter_mut() {
        run.row.equal = Equal {
            env_steps,
            wall_s,
            return_at_env_steps: env_steps.and_then(|at| run.curve.at_env_steps(at)),
            return_at_wall_s: wall_s.and_then(|at| run.curve.at_wall_s(at)),
        };
    }
}

/// `results.jsonl`: one object a line.
pub(crate) fn to_jsonl<'a>(rows: impl Iterator<Item = &'a Row>) -> String {
    rows.filter_map(|row| serde_json::to_string(row).ok())
        .fold(String::new(), |text, line| text + &line + "\n")
}

/// Reads `results.jsonl`.
///
/// # Errors
/// The number of the first line that is no row, and what is wrong with it.
pub(crate) fn from_jsonl(text: &str) -> Result<Vec<Row>, String> {
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(at, line)| {
            serde_json::from_str(line).map_err(|error| format!("line {}: {error}", at + 1))
        })
        .collect()
}

type Column = (&'static str, fn(&Row) -> Option<String>);

fn number(value: Option<f64>) -> Option<String> {
    value
        .filter(|value| value.is_finite())
        .map(|value| value.to_string())
}

/// Columns after those of the axes; causes of lag and shares of time follow.
const COLUMNS: &[Column] = &[
    ("seed", |row| Some(row.seed.to_string())),
    ("status", |row| Some(row.status.as_str().to_owned())),
    ("error", |row| row.error.clone()),
    ("return_end", |row| number(row.measured.return_mean_100)),
    ("return_best", |row| number(row.measured.return_best_100)),
    ("return_at_equal_env_steps", |row| {
        number(row.equal.return_at_env_steps)
    }),
    ("return_at_equal_wall_s", |row| {
        number(row.equal.return_at_wall_s)
    }),
    ("equal_env_steps", |row| number(row.equal.env_steps)),
    ("equal_wall_s", |row| number(row.equal.wall_s)),
    ("threshold_env_steps", |row| {
        row.measured
            .threshold
            .as_ref()
            .map(|t| t.env_steps.to_string())
    }),
    ("threshold_wall_s", |row| {
        number(row.measured.threshold.as_ref().map(|t| t.wall_s))
    }),
    ("env_steps", |row| Some(row.measured.env_steps.to_string())),
    ("trained_steps", |row| {
        Some(row.measured.trained_steps.to_string())
    }),
    ("updates", |row| Some(row.measured.updates.to_string())),
    ("episodes", |row| Some(row.measured.episodes.to_string())),
    ("wall_s", |row| number(Some(row.measured.wall_s))),
    ("env_steps_per_s", |row| {
        number(row.measured.env_steps_per_s)
    }),
    ("trained_steps_per_s", |row| {
        number(row.measured.trained_steps_per_s)
    }),
    ("lag_mean_versions", |row| number(row.measured.lag.mean)),
    ("lag_p50_versions", |row| number(row.measured.lag.p50)),
    ("lag_p95_versions", |row| number(row.measured.lag.p95)),
    ("lag_p99_versions", |row| number(row.measured.lag.p99)),
    ("lag_max_versions", |row| number(row.measured.lag.max)),
    ("lag_seconds", |row| number(row.measured.lag.seconds)),
    ("lag_env_steps", |row| number(row.measured.lag.env_steps)),
    ("lag_predicted_versions", |row| {
        number(row.measured.predicted())
    }),
    ("lag_predicted_agrees", |row| {
        row.measured
            .lag_predicted
            .as_ref()?
            .agrees
            .map(|agrees| agrees.to_string())
    }),
    ("ess", |row| number(row.measured.ess)),
    ("clip_fraction", |row| number(row.measured.clip_fraction)),
    ("received_bytes_per_step", |row| {
        number(row.measured.bytes_per_step()[0])
    }),
    ("sent_bytes_per_step", |row| {
        number(row.measured.bytes_per_step()[1])
    }),
    ("inference_batch_rows", |row| {
        number(row.measured.inference.as_ref()?.batch_rows)
    }),
    ("inference_rows_per_s", |row| {
        number(row.measured.inference.as_ref()?.rows_per_s)
    }),
    ("inference_wait_s", |row| {
        number(row.measured.inference.as_ref()?.wait_s)
    }),
    ("bottleneck", |row| Some(words(&row.measured.bottleneck))),
    ("environment", |row| Some(row.measured.environment.clone())),
    ("device", |row| Some(row.measured.device.clone())),
    ("config_hash", |row| Some(row.config_hash.clone())),
    ("version", |row| Some(row.version.clone())),
    ("host", |row| Some(row.host.clone())),
    ("cell", |row| Some(row.cell.clone())),
];

/// Shares of time in the order of their columns.
pub(crate) const TIMES: [&str; 8] = [
    "learner_busy",
    "learner_waiting",
    "learner_measuring",
    "actors_blocked",
    "actors_environment",
    "actors_inference",
    "actors_sending",
    "queue_fill",
];

/// `results.csv`: the same with one column for each number. What was not measured is empty.
pub(crate) fn to_csv(rows: &[&Row]) -> String {
    let axes = axes(rows.iter().copied());
    let mut names: Vec<String> = axes.iter().map(ToString::to_string).collect();
    names.extend(COLUMNS.iter().map(|(name, _)| (*name).to_owned()));
    names.extend(CAUSES.iter().map(|cause| format!("lag_{cause}_versions")));
    names.extend(TIMES.iter().map(|time| format!("time_{time}")));
    let mut text = line(&names);
    for row in rows {
        let mut fields: Vec<String> = axes
            .iter()
            .map(|axis| row.setting(axis).to_owned())
            .collect();
        fields.extend(
            COLUMNS
                .iter()
                .map(|(_, value)| value(row).unwrap_or_default()),
        );
        let more = CAUSES.iter().map(|cause| row.measured.cause(cause));
        let more = more.chain(TIMES.iter().map(|time| row.measured.time(time)));
        fields.extend(more.map(|value| number(value).unwrap_or_default()));
        text.push_str(&line(&fields));
    }
    text
}

/// A record of RFC 4180.
fn line(fields: &[String]) -> String {
    let mut text = String::new();
    for (at, field) in fields.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = if field.contains([',', '"', '\n', '\r']) {
            write!(text, "{comma}\"{}\"", field.replace('"', "\"\""))
        } else {
            write!(text, "{comma}{field}")
        };
    }
    text + "\r\n"
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{super::curve::CurvePoint, *};

    /// A finished run with a straight learning curve from 0 to `end`.
    pub(crate) fn run(settings: &[(&str, &str)], seed: u64, env_steps: u64, end: f64) -> Run {
        let mut measured = Measured {
            environment: "CartPole-v1".to_owned(),
            env_steps,
            trained_steps: env_steps,
            wall_s: env_steps as f64 / 1000.0,
            return_mean_100: Some(end),
            trained_steps_per_s: Some(1000.0),
            ..Measured::default()
        };
        measured.lag.mean = Some(2.0);
        let points = (0..=100).map(|percent| {
            let share = f64::from(percent) / 100.0;
            CurvePoint {
                env_steps: share * env_steps as f64,
                wall_s: share * measured.wall_s,
                mean_return: Some(share * end),
                ..CurvePoint::default()
            }
        });
        Run {
            curve: Curve {
                points: points.collect(),
            },
            config: vec![("run.seed".to_owned(), seed.to_string())],
            row: Row {
                cell: format!("{settings:?}-{seed}"),
                settings: settings
                    .iter()
                    .map(|(key, label)| ((*key).to_owned(), Value::from(*label)))
                    .collect(),
                seed,
                status: Status::Done,
                error: None,
                config_hash: "0".to_owned(),
                version: "0.1.0".to_owned(),
                host: "a machine".to_owned(),
                equal: Equal::default(),
                measured,
            },
        }
    }

    #[test]
    fn rows_survive_the_way_through_the_file() {
        let mut first = run(&[("variant", "a"), ("lag.inject", "8")], 1, 1000, 5.0).row;
        first
            .measured
            .lag_causes
            .insert("queue".to_owned(), Some(1.5));
        let second = Row {
            status: Status::Failed,
            error: Some("it said \"no\",\nand left".to_owned()),
            ..first.clone()
        };
        let rows = [first, second];
        assert_eq!(from_jsonl(&to_jsonl(rows.iter())).unwrap(), rows);
        assert!(from_jsonl("{}\n").unwrap_err().starts_with("line 1"));
    }

    #[test]
    fn a_summary_of_an_older_version_is_enough() {
        let measured = Measured::read(
            r#"{"trained_steps": 5, "ess": null, "lag": {"mean": 2.5}, "bottleneck": "learner", "novel": [1]}"#,
        )
        .unwrap();
        assert_eq!((measured.lag.mean, measured.ess), (Some(2.5), None));
        assert!(measured.is_complete(5) && !measured.is_complete(6));
        assert_eq!(measured.predicted(), None);
    }

    #[test]
    fn the_table_has_every_axis_and_quotes_what_needs_it() {
        let mut rows = [
            run(&[("variant", "a")], 1, 1000, 5.0).row,
            run(
                &[("variant", "b,c"), ("lag.inject", "8")],
                2,
                1000,
                f64::NAN,
            )
            .row,
        ];
        rows[0].cell = "a".to_owned();
        rows[1].error = Some("said \"no\"".to_owned());
        let csv = to_csv(&rows.iter().collect::<Vec<_>>());
        let lines: Vec<&str> = csv.split_terminator("\r\n").collect();
        assert!(lines[0].starts_with("variant,lag.inject,seed,status,error,return_end,"));
        assert!(lines[0].ends_with(",time_queue_fill"));
        assert!(lines[1].starts_with("a,,1,done,,5,"), "{csv}");
        assert!(
            lines[2].starts_with("\"b,c\",8,2,done,\"said \"\"no\"\"\",,"),
            "{csv}"
        );
        let plain = |line: &str| line.matches(',').count();
        assert_eq!(plain(lines[0]), plain(lines[1]));
    }

    #[test]
    fn runs_are_compared_where_the_shortest_ends() {
        let mut runs = vec![
            run(&[("lag.inject", "0")], 1, 1000, 10.0),
            run(&[("lag.inject", "8")], 1, 500, 10.0),
            run(&[("lag.inject", "9")], 1, 10, 10.0),
            run(&[("lag.inject", "10")], 1, 20, 10.0),
        ];
        runs[2].row.status = Status::Failed;
        runs[3].row.measured.threshold = Some(Default::default());
        equalise(&mut runs);
        let at: Vec<Option<f64>> = runs
            .iter()
            .map(|run| run.row.equal.return_at_env_steps)
            .collect();
        assert_eq!(at, [Some(5.0), Some(10.0), Some(10.0), Some(10.0)]);
        assert_eq!(runs[0].row.equal.wall_s, Some(0.5));
        assert_eq!(runs[0].row.equal.return_at_wall_s, Some(5.0));
        equalise(&mut []);
    }
}
