//! `springbok eval`: plays a run's policy and reports the returns; shows it in the terminal or records it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;
use springbok_actor::environment::Registry;

use self::{
    player::Way,
    record::Recording,
    stage::Stage,
    watch::{Show, terminal},
};
use crate::{exit::Failure, output};

mod cells;
mod player;
mod record;
mod stage;
mod watch;

/// Episodes for each way to play, unless the command line says otherwise.
const EPISODES: u32 = 100;

/// Whether the run directory has a policy that can be played.
pub(crate) fn has_policy(run_directory: &Path, registry: &Arc<Registry>) -> bool {
    Stage::load(run_directory, registry).is_ok()
}

/// What to play, and what to show of it.
#[derive(Debug, Clone)]
pub(crate) struct Eval {
    /// The run whose policy plays.
    pub(crate) run_directory: PathBuf,
    /// Episodes for each way to play; `None` for the usual number.
    pub(crate) episodes: Option<u32>,
    /// Whether only the most probable actions are played.
    pub(crate) greedy: bool,
    /// Seed of environments and sampling.
    pub(crate) seed: u64,
    /// Whether to print one JSON object and nothing else.
    pub(crate) json: bool,
    /// Whether to draw the environment in the terminal.
    pub(crate) watch: bool,
    /// File for an animation, `.gif` or `.mp4`.
    pub(crate) record: Option<PathBuf>,
    /// Frames per second, shown and recorded.
    pub(crate) fps: u32,
}

/// Returns of some episodes; raw rewards, whatever the learner made of them.
#[derive(Debug, Serialize)]
struct Returns {
    mean: f64,
    std: f64,
    min: f64,
    max: f64,
    /// Mean number of steps of an episode.
    length_mean: f64,
}

/// What is printed.
#[derive(Serialize)]
struct Report {
    environment: String,
    episodes: u32,
    seed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    greedy: Option<Returns>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sampled: Option<Returns>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded: Option<String>,
}

/// Plays, and prints the returns.
///
/// # Errors
/// Exit 64 for what cannot be shown or recorded, 70 for an environment that fails, 74 for files.
pub(super) fn run(eval: &Eval, registry: &Arc<Registry>) -> Result<(), Failure> {
    if eval.watch || eval.record.is_some() {
        // What the terminal or the file is missing is said before anything is loaded.
        let show = eval.watch.then(terminal).transpose()?;
        let recording = eval
            .record
            .as_deref()
            .map(|path| Recording::new(path, eval.fps));
        let recording = recording.transpose()?;
        return play_shown(eval, registry, show, recording);
    }
    let stage = Stage::load(&eval.run_directory, registry)?;
    let episodes = eval.episodes.unwrap_or(EPISODES);
    let play = |way| {
        stage
            .play(episodes, eval.seed, way)
            .map(|all| returns(&all))
    };
    let report = Report {
        environment: stage.environment_id().to_owned(),
        episodes,
        seed: eval.seed,
        greedy: Some(play(Way::Greedy)?),
        sampled: if eval.greedy {
            None
        } else {
            Some(play(Way::Sampled)?)
        },
        recorded: None,
    };
    print(&report, eval.json);
    Ok(())
}

/// Plays in one environment, one way, and shows or records each state.
fn play_shown(
    eval: &Eval,
    registry: &Arc<Registry>,
    show: Option<Show>,
    mut recording: Option<Recording>,
) -> Result<(), Failure> {
    let stage = Stage::load(&eval.run_directory, registry)?;
    let way = if eval.greedy {
        Way::Greedy
    } else {
        Way::Sampled
    };
    // A file needs an end; whoever watches may say when it is enough.
    let episodes = eval.episodes.or(recording.is_some().then_some(1));
    let mut player = stage.player_to_show(eval.seed, way)?;
    let ended = watch::play(&mut player, episodes, eval.fps, show, recording.as_mut())?;
    if let Some(recording) = recording {
        recording.finish()?;
    }
    if ended.is_empty() {
        return Ok(());
    }
    let returns = Some(returns(&ended));
    let (greedy, sampled) = match way {
        Way::Greedy => (returns, None),
        Way::Sampled => (None, returns),
    };
    let report = Report {
        environment: stage.environment_id().to_owned(),
        episodes: u32::try_from(ended.len()).unwrap_or(u32::MAX),
        seed: eval.seed,
        greedy,
        sampled,
        recorded: eval
            .record
            .as_deref()
            .map(Path::display)
            .map(|path| path.to_string()),
    };
    print(&report, eval.json);
    Ok(())
}

fn print(report: &Report, json: bool) {
    if json {
        output::json(report);
        return;
    }
    let both = report.greedy.is_some() && report.sampled.is_some();
    output::line(&format!(
        "{}, {} episode{}{}, seed {}",
        report.environment,
        report.episodes,
        if report.episodes == 1 { "" } else { "s" },
        if both { " each way" } else { "" },
        report.seed
    ));
    for (way, returns) in [("greedy", &report.greedy), ("sampled", &report.sampled)] {
        if let Some(returns) = returns {
            output::line(&format!(
                "{way:8} mean return {:.2} (standard deviation {:.2}), lowest {:.2}, highest {:.2}, mean length {:.1}",
                returns.mean, returns.std, returns.min, returns.max, returns.length_mean
            ));
        }
    }
    if let Some(path) = &report.recorded {
        output::line(&format!("recorded in {path}"));
    }
}

fn returns(episodes: &[springbok_common::unroll::EpisodeSummary]) -> Returns {
    let count = episodes.len() as f64;
    let all = || episodes.iter().map(|episode| episode.episode_return);
    let mean = all().sum::<f64>() / count;
    Returns {
        mean,
        std: (all().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt(),
        min: all().fold(f64::INFINITY, f64::min),
        max: all().fold(f64::NEG_INFINITY, f64::max),
        length_mean: episodes
            .iter()
            .map(|episode| f64::from(episode.length))
            .sum::<f64>()
            / count,
    }
}
