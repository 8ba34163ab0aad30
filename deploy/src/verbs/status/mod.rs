//! `springbok status`: how a running learner is doing, once or again and again; or only whether it serves.

mod table;

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    thread,
    time::Duration,
};

use springbok_common::credentials::Token;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::runtime;
use crate::{
    exit::{Exit, Failure},
    output, page, screen,
    shutdown::Interrupts,
};

/// Between two looks.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// For connecting to a learner, and for its answer.
const PROBE_TIME_MAX: Duration = Duration::from_secs(3);

/// Goes to the upper left corner of a terminal and clears it.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// What is asked of whom.
#[derive(Debug)]
pub(crate) enum Target {
    /// Everything, of a learner's page.
    Run(String),
    /// Whether it serves, of a learner's page.
    Health(String),
    /// Whether it serves, of the address that actors connect to.
    Learner(String),
}

/// What to show.
#[derive(Debug)]
pub(crate) struct Status {
    /// Of whom.
    pub(crate) target: Target,
    /// Whether to go on.
    pub(crate) watch: bool,
    /// Whether to go on on a screen of its own.
    pub(crate) ui: bool,
    /// Whether to print JSON.
    pub(crate) json: bool,
    /// Where the token is.
    pub(crate) token_file: Option<PathBuf>,
}

/// Shows it.
pub(super) fn run(status: &Status) -> Result<(), Failure> {
    let token = page::token(status.token_file.as_deref())?;
    match &status.target {
        Target::Run(url) if status.ui => {
            screen::check()?;
            let runtime = runtime()?;
            screen::follow(url, token, &interrupted(&runtime)?)
        }
        Target::Run(url) if status.watch => watch(url, token.as_ref(), status.json),
        Target::Run(url) => {
            let shown = page::status(url, token.as_ref())?;
            if status.json {
                output::json(&shown);
            } else {
                output::line(table::in_words(&shown).trim_end());
            }
            Ok(())
        }
        Target::Health(url) => {
            let answer = page::get(url, "/health", None)?;
            let word = String::from_utf8_lossy(&answer.body);
            serves(answer.code == 200, url, word.trim())
        }
        Target::Learner(url) => runtime()?.block_on(probe(url)),
    }
}

/// Cancelled by the first signal: the terminal has to be given back first.
fn interrupted(runtime: &Runtime) -> Result<CancellationToken, Failure> {
    let (token, _inside) = (CancellationToken::new(), runtime.enter());
    let (mut signals, interrupted) = (Interrupts::listen()?, token.clone());
    runtime.spawn(async move {
        signals.next().await;
        interrupted.cancel();
    });
    Ok(token)
}

/// The status in the bytes of an HTTP answer, in words; none if there is none.
pub(crate) fn in_words(answer: &[u8]) -> Option<String> {
    let status = page::read_status(&page::parse(answer).ok()?)?;
    Some(table::in_words(&status))
}

/// Shows it until the learner is gone; only a learner that was never there is a failure.
fn watch(url: &str, token: Option<&Token>, json: bool) -> Result<(), Failure> {
    let mut shown = page::status(url, token)?;
    let clear = if io::stdout().is_terminal() && !json {
        CLEAR
    } else {
        ""
    };
    loop {
        let text = if json {
            serde_json::to_string(&shown).unwrap_or_default() + "\n"
        } else {
            table::in_words(&shown) + "\n"
        };
        let mut stdout = io::stdout().lock();
        let written = write!(stdout, "{clear}{text}").and_then(|()| stdout.flush());
        drop(stdout);
        if written.is_err() {
            // Nobody reads any more.
            return Ok(());
        }
        thread::sleep(WATCH_INTERVAL);
        match page::status(url, token) {
            Ok(next) => shown = next,
            Err(gone) => {
                output::notice(&gone.text);
                return Ok(());
            }
        }
    }
}

/// Asks the standard health service, as container schedulers do.
async fn probe(url: &str) -> Result<(), Failure> {
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| {
        Failure::usage(format!(
            "{url:?} is no address of a learner ({error}); write it as http://127.0.0.1:5005"
        ))
    })?;
    let endpoint = endpoint
        .connect_timeout(PROBE_TIME_MAX)
        .timeout(PROBE_TIME_MAX);
    let channel = endpoint.connect().await;
    let channel = channel.map_err(|error| Failure::caused(Exit::Passed(69).code(), &error))?;
    let request = HealthCheckRequest::default();
    let answer = HealthClient::new(channel).check(request).await;
    let answer = answer.map_err(|status| page::unavailable(url, status.message()))?;
    let status = answer.into_inner().status();
    let word = status.as_str_name().to_lowercase();
    serves(status == ServingStatus::Serving, url, &word)
}

fn serves(yes: bool, url: &str, word: &str) -> Result<(), Failure> {
    if yes {
        output::line(word);
        return Ok(());
    }
    let text = format!("the learner at {url} does not serve actors now: {word}");
    Err(Failure::new(Exit::Passed(69), text))
}
