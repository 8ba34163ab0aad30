//! Python environments that fail: what is told, what is left, and how often they are started again.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod python_common;

use std::{
    io::Read as _,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use python_common::{options, settings, step, try_step};
use springbok_actor::{
    environment::EnvironmentError,
    python::{self, PythonSettings, PythonVector},
    vector::VectorEnvironment as _,
};
use springbok_common::arrays::ActionsRef;

/// Set in the process that the last test kills: where its environment shows that it lives.
const WITNESS: &str = "SPRINGBOK_TEST_WITNESS";

fn faulty(fault: &str, at: u32, settings: &PythonSettings) -> PythonVector {
    let table = options(&format!("fault = \"{fault}\"\nat = {at}"));
    PythonVector::new("py:faults:make", &table, settings, 2, 1).unwrap()
}

/// What the second step says.
fn failure(fault: &str) -> String {
    let mut vector = faulty(fault, 2, &settings());
    step(&mut vector, &[0, 0]);
    let told = try_step(&mut vector, ActionsRef::Indices(&[0, 0])).unwrap_err();
    assert_eq!(vector.process_id(), None);
    let again = try_step(&mut vector, ActionsRef::Indices(&[0, 0])).unwrap_err();
    assert!(again.contains("was not started again"), "{again}");
    told
}

fn assert_tells(fault: &str, parts: &[&str]) {
    let told = failure(fault);
    for part in parts {
        assert!(
            told.contains(part),
            "{fault} does not tell {part:?}:\n{told}"
        );
    }
}

#[test]
fn exceptions_are_told_with_their_traceback() {
    assert_tells(
        "raises",
        &[
            "environment `py:faults:make` failed: RuntimeError: the axle broke",
            "in raises",
            "raise RuntimeError(\"the axle broke\")",
        ],
    );
    assert_tells("old_style", &["step() returned 4 values"]);
    assert_tells("shows_too_much", &["but its space says"]);
}

#[test]
fn crashes_are_told_with_what_was_running() {
    assert_tells(
        "crashes",
        &["signal: 11", "Segmentation fault", "in crashes"],
    );
    assert_tells("exits", &["exit status: 3", "during a step"]);
}

#[test]
fn numbers_outside_the_contract_are_refused() {
    assert_tells("shows_nan", &["environment 0 showed NaN as number 1"]);
    assert_tells("pays_infinity", &["environment 0 gave the reward inf"]);
}

#[test]
fn a_step_that_never_ends_is_cut_off_with_its_traceback() {
    let hasty = PythonSettings {
        step_deadline_max: Duration::from_millis(300),
        ..settings()
    };
    let mut vector = faulty("hangs", 1, &hasty);
    let told = try_step(&mut vector, ActionsRef::Indices(&[0, 0])).unwrap_err();
    assert!(told.contains("a step took longer than 0.3 s"), "{told}");
    assert!(told.contains("step_deadline_s_max"), "{told}");
    assert!(told.contains("in hangs"), "{told}");
}

#[test]
fn restarts_are_counted_and_end() {
    let patient = PythonSettings {
        restarts_max: 2,
        ..settings()
    };
    let mut vector = faulty("raises", 2, &patient);
    for life in 0..3 {
        assert_eq!(vector.restarts(), life);
        // Nothing of an earlier life is left: the episode begins anew.
        assert_eq!(vector.observations().to_f32(), [1.0, 0.0, 1.0, 0.0]);
        step(&mut vector, &[0, 0]);
        assert!(try_step(&mut vector, ActionsRef::Indices(&[0, 0])).is_err());
        if life < 2 {
            vector.restart().unwrap();
        }
    }
    let error = vector.restart().unwrap_err();
    assert!(matches!(error, EnvironmentError::Failed { .. }));
    let told = error.to_string();
    assert!(told.contains("was started again 2 times"), "{told}");
    assert!(told.contains("the axle broke"), "{told}");
}

#[test]
fn what_cannot_be_made_is_told_apart_from_what_fails() {
    let told = |id: &str, settings: &PythonSettings| {
        let error = python::spec(id, &options(""), settings).unwrap_err();
        assert!(
            matches!(error, EnvironmentError::Construction { .. }),
            "{error}"
        );
        error.to_string()
    };
    let broken = told("py:faults:broken", &settings());
    assert!(
        broken.contains("could not be made: ValueError: no such level"),
        "{broken}"
    );
    assert!(broken.contains("in broken"), "{broken}");

    let python = settings().interpreter;
    assert_eq!(
        told("py:springbok_does_not_exist:make", &settings()),
        format!(
            "environment `py:springbok_does_not_exist:make` could not be made: there is no Python module \
             `springbok_does_not_exist`; install it with `{python} -m pip install springbok_does_not_exist`"
        )
    );
    let lacking = told("py:faults:lacks_a_module", &settings());
    assert!(
        lacking.contains("pip install springbok_does_not_exist"),
        "{lacking}"
    );

    let hasty = PythonSettings {
        start_deadline_max: Duration::from_millis(500),
        ..settings()
    };
    let slow = told("py:faults:slow", &hasty);
    assert!(slow.contains("start_deadline_s_max"), "{slow}");

    let nowhere = PythonSettings {
        interpreter: "/no/such/python".into(),
        ..settings()
    };
    let missing = told("py:faults:broken", &nowhere);
    assert!(
        missing.contains("`/no/such/python` cannot be started"),
        "{missing}"
    );
    assert!(
        missing.contains("environment.python.interpreter"),
        "{missing}"
    );
}

/// A vector whose next step hangs, and what its environment shows until its process is gone.
fn hanging(witness: &Path) -> PythonVector {
    let table = options(&format!(
        "fault = \"hangs\"\npath = '{}'",
        witness.display()
    ));
    let hasty = PythonSettings {
        step_deadline_max: Duration::from_secs(600),
        ..settings()
    };
    PythonVector::new("py:faults:make", &table, &hasty, 1, 1).unwrap()
}

/// Waits until the environment hangs.
fn hangs(listener: &UnixListener) -> UnixStream {
    let (mut stream, _) = listener.accept().unwrap();
    stream.read_exact(&mut [0]).unwrap();
    stream
}

#[test]
fn a_server_does_not_outlive_its_actor() {
    if let Some(witness) = std::env::var_os(WITNESS) {
        let mut vector = hanging(&PathBuf::from(witness));
        let _ = try_step(&mut vector, ActionsRef::Indices(&[0]));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let witness = folder.path().join("witness");
    let listener = UnixListener::bind(&witness).unwrap();
    // This test again, in a process that can be killed.
    let mut actor = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_server_does_not_outlive_its_actor"])
        .env(WITNESS, &witness)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut server = hangs(&listener);
    server
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    actor.kill().unwrap();
    actor.wait().unwrap();
    // The end of the stream comes with the end of the server.
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
}

#[test]
fn dropping_a_vector_ends_its_server() {
    let vector = faulty("raises", 9, &settings());
    let process = i32::try_from(vector.process_id().unwrap()).unwrap();
    let process = rustix::process::Pid::from_raw(process).unwrap();
    assert!(rustix::process::test_kill_process(process).is_ok());
    drop(vector);
    // It was waited for, so not even its entry is left.
    assert!(rustix::process::test_kill_process(process).is_err());
}
