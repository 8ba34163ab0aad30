//! The Slurm script with the real program, and with stand-ins for `srun` and `scontrol` that run everything here.

use std::{
    fs, net::TcpListener, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;
use springbok_tests::Program;
use tempfile::TempDir;

use crate::{BINARY, at, read};

/// Runs its command as often as there are tasks, refuses options that Slurm's does not have, passes signals on, and ends
/// with the largest status.
const SRUN: &str = r#"#!/bin/sh
set -u
tasks=1
while :; do
    case $1 in
    --ntasks=*) tasks=${1#*=} ;;
    --nodes=* | --relative=* | --exact | --gpus=* | --kill-on-bad-exit=* | --wait=*) ;;
    -*) echo "srun: unknown option $1" >&2; exit 1 ;;
    *) break ;;
    esac
    shift
done
children=
task=0
while [ "$task" -lt "$tasks" ]; do
    SLURM_PROCID=$task "$@" &
    children="$children $!"
    task=$((task + 1))
done
trap 'kill -TERM $children 2>/dev/null' TERM
largest=0
for child in $children; do
    wait "$child"
    status=$?
    while kill -0 "$child" 2>/dev/null; do wait "$child"; status=$?; done
    [ "$status" -le "$largest" ] || largest=$status
done
exit "$largest"
"#;

/// Lists one host, and writes down what is to be queued again.
const SCONTROL: &str = r#"#!/bin/sh
case "$1 $2" in
'show hostnames') echo localhost ;;
requeue*) echo "$2" >>"$(dirname "$0")/requeued" ;;
*) echo "scontrol: unknown $*" >&2; exit 1 ;;
esac
"#;

struct Cluster {
    folder: TempDir,
}

impl Cluster {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, script) in [("srun", SRUN), ("scontrol", SCONTROL)] {
            let path = folder.path().join(name);
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { folder }
    }

    fn run(&self) -> PathBuf {
        self.folder.path().join("runs").join("job")
    }

    /// What the first of `nodes` does with the script of job 4711: one learner and two actors. All are here.
    fn start(&self, nodes: u32, arguments: &[&str]) -> Program {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new("bash");
        command
            .arg(at("deploy/slurm/springbok.sbatch"))
            .args(arguments)
            .env("PATH", format!("{}:{path}", self.folder.path().display()))
            .env("SLURM_JOB_ID", "4711")
            .env("SLURM_JOB_NODELIST", "node[1]")
            .env("SLURM_JOB_NUM_NODES", nodes.to_string())
            .env("SLURM_NTASKS", "3")
            .env("SLURM_SUBMIT_DIR", at(""))
            // However often it was queued again: only crashes are counted out.
            .env("SLURM_RESTART_COUNT", "9")
            .env("SPRINGBOK_BINARY", BINARY)
            .env("RUN", self.run())
            .env("PORT", port.to_string());
        Program::start(command)
    }

    fn requeued(&self) -> String {
        fs::read_to_string(self.folder.path().join("requeued")).unwrap_or_default()
    }

    fn summary(&self) -> Value {
        let text = fs::read_to_string(self.run().join("summary.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

#[test]
fn a_job_that_is_preempted_is_queued_again_and_then_done() {
    preempt(1);
}

/// Beyond one node with keys of its own, which are renewed when it begins again.
#[test]
fn so_is_a_job_on_several_nodes_which_makes_keys() {
    let cluster = preempt(2);
    let mut keys = cluster.run().into_os_string();
    keys.push(".keys");
    assert!(PathBuf::from(keys).join("token").is_file());
}

fn preempt(nodes: u32) -> Cluster {
    let cluster = Cluster::new();
    // Far more than it will get to, however quick the machine is.
    let mut job = cluster.start(nodes, &["--total-steps", "1000000000"]);
    // Both actors have joined, so the learner trains.
    job.wait_for("actor joined", Duration::from_secs(60));
    job.wait_for("actor joined", Duration::from_secs(60));
    job.signal(Signal::TERM);
    let ended = job.wait(Duration::from_secs(60));
    assert_eq!(ended.code(), 75, "{ended:?}");
    assert_eq!(cluster.requeued(), "4711\n");

    let trained = cluster.summary()["trained_steps"].as_u64().unwrap();
    let steps = trained + 30_000;
    let ended = cluster
        .start(nodes, &["--total-steps", &steps.to_string()])
        .wait(Duration::from_secs(120));
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert!(ended.stdout.contains("is done"), "{ended:?}");
    assert_eq!(
        cluster.requeued(),
        "4711\n",
        "a job that was done was queued again"
    );
    let summary = cluster.summary();
    assert!(summary["trained_steps"].as_u64().unwrap() >= steps);
    // Without a step there was nothing to go on with, and the run began anew.
    assert_eq!(summary["epoch"], 1 + u64::from(trained > 0));
    assert_eq!(summary["actors"]["lost"], 0);
    cluster
}

#[test]
fn a_fault_of_the_configuration_is_not_tried_again() {
    let cluster = Cluster::new();
    let ended = cluster
        .start(1, &["--set", "actor.unroll_length=0"])
        .wait(Duration::from_secs(60));
    assert_eq!(ended.code(), 64, "{ended:?}");
    assert_eq!(cluster.requeued(), "");
}

#[test]
fn directives_are_slurms() {
    let known = [
        "job-name",
        "ntasks",
        "cpus-per-task",
        "time",
        "requeue",
        "open-mode",
        "signal",
    ];
    let script = read("deploy/slurm/springbok.sbatch");
    let mut seen = 0;
    for line in script
        .lines()
        .filter_map(|line| line.strip_prefix("#SBATCH --"))
    {
        let name = line.split('=').next().unwrap();
        assert!(known.contains(&name), "--{name}");
        seen += 1;
    }
    // Slurm reads directives only up to the first command.
    let directives = script
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with("#SBATCH"))
        .count();
    assert_eq!((seen, directives), (known.len(), known.len()));
}
