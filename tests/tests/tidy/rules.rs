//! What no line of a covered file may do.

use crate::code::code_only;

/// A file longer than this should be two.
pub(crate) const FILE_LINES_MAX: usize = 500;

/// A line twice: as written, and with comments, strings and character literals blanked.
#[derive(Clone, Copy)]
struct Line<'a> {
    raw: &'a str,
    code: &'a str,
    /// Whether it belongs to the unit tests at the end of its file.
    in_tests: bool,
}

impl<'a> Line<'a> {
    /// The words of the code.
    fn words(self) -> impl Iterator<Item = &'a str> {
        self.code
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .filter(|word| !word.is_empty())
    }

    fn has_word(self, words: &[&str]) -> bool {
        self.words().any(|word| words.contains(&word))
    }

    /// The code without spaces.
    fn squeezed(self) -> String {
        self.code.split_whitespace().collect()
    }
}

/// Something that no line of a covered file may do.
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    covers: fn(path: &str) -> bool,
    offends: fn(Line) -> bool,
}

pub(crate) const RULES: [Rule; 7] = [
    Rule {
        name: "channels are bounded",
        covers: |_| true,
        offends: no_capacity,
    },
    Rule {
        name: "nothing is left to do",
        covers: |_| true,
        offends: left_to_do,
    },
    Rule {
        name: "no test is ignored",
        covers: |_| true,
        offends: |line| line.squeezed().contains("#[ignore"),
    },
    Rule {
        name: "wgpu is named only in learner/src/device.rs",
        covers: |path| path != "learner/src/device.rs",
        offends: |line| {
            line.words()
                .any(|word| word.to_lowercase().contains("wgpu"))
        },
    },
    Rule {
        name: "pure modules know no socket, no clock and no log",
        covers: pure_module,
        // Only a clock makes an `Instant`, so the tests have to ask one for the time to begin at.
        offends: |line| !line.in_tests && outside_world(line),
    },
    Rule {
        name: "protobuf types stay at the edges",
        covers: |path| !may_name_protobuf(path),
        offends: |line| line.has_word(&["springbok_proto"]) || line.squeezed().contains("wire::v1"),
    },
    Rule {
        name: "services and sessions carry no tensors",
        covers: carries_no_tensor,
        offends: |line| line.has_word(&["burn"]),
    },
];

/// Whether the line makes or names a channel without a capacity: those of tokio, crossbeam and std.
fn no_capacity(line: Line) -> bool {
    let names = [
        "unbounded",
        "unbounded_channel",
        "UnboundedSender",
        "UnboundedReceiver",
    ];
    let code = line.squeezed();
    let of_std = code.contains("mpsc::channel()")
        || (code.contains("mpsc::channel::<") && code.contains("()"));
    line.has_word(&names) || of_std
}

/// Whether the line, comments included, says that something is missing.
fn left_to_do(line: Line) -> bool {
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
    ];
    let marked = line
        .raw
        .split(|c: char| !c.is_alphanumeric())
        .any(|word| marks.contains(&word));
    let code = line.squeezed();
    marked || code.contains("todo!(") || code.contains("unimplemented!(")
}

pub(crate) fn pure_module(path: &str) -> bool {
    is_module(path, "learner/src/algorithm")
        || is_module(path, "learner/src/admission")
        || is_module(path, "learner/src/roster")
        || is_module(path, "learner/src/ledger")
        || is_module(path, "learner/src/gate")
        || is_module(path, "learner/src/governor")
        || is_module(path, "learner/src/inference/batcher")
        || is_module(path, "learner/src/lag/predict")
        || is_module(path, "learner/src/steered")
        || is_module(path, "learner/src/verdict")
        || is_module(path, "learner/src/watchdog")
        || is_module(path, "actor/src/session")
        || is_module(path, "deploy/src/lab/plan")
        || is_module(path, "deploy/src/lab/measured")
        || is_module(path, "deploy/src/lab/curve")
        || is_module(path, "deploy/src/lab/rows")
        || is_module(path, "deploy/src/lab/report")
}

fn outside_world(line: Line) -> bool {
    line.has_word(&["tokio", "tonic", "tracing", "SystemTime"])
        || line.squeezed().contains("Instant::now")
}

pub(crate) fn may_name_protobuf(path: &str) -> bool {
    path.starts_with("proto/")
        || path.starts_with("tests/")
        || only_tests(path)
        || is_module(path, "common/src/wire")
        || is_module(path, "learner/src/service")
        || is_module(path, "actor/src/client")
        || is_module(path, "actor/src/connect")
}

fn carries_no_tensor(path: &str) -> bool {
    let modules = [
        "learner/src/admission",
        "learner/src/ledger",
        "learner/src/roster",
        "learner/src/service",
        "actor/src/client",
        "actor/src/connect",
        "actor/src/session",
    ];
    modules.iter().any(|module| is_module(path, module)) && !only_tests(path)
}

/// Whether the file holds nothing but tests, which play the other side of the wire and so must speak all of it.
fn only_tests(path: &str) -> bool {
    path.ends_with("tests.rs")
}

/// Whether `path` is the module `module.rs`, or a file within the folder `module/`.
fn is_module(path: &str, module: &str) -> bool {
    path.strip_prefix(module)
        .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

/// Every breach of every rule about lines, and of the length of a file.
pub(crate) fn source_violations(path: &str, source: &str) -> Vec<String> {
    let code = code_only(source);
    let code: Vec<&str> = code.lines().collect();
    let tests_begin = unit_tests_begin(&code);
    let mut found = Vec::new();
    for (at, (raw, code)) in source.lines().zip(code).enumerate() {
        let in_tests = at >= tests_begin;
        for rule in &RULES {
            let line = Line {
                raw,
                code,
                in_tests,
            };
            if (rule.covers)(path) && (rule.offends)(line) {
                let (place, name) = (at + 1, rule.name);
                found.push(format!("{path}:{place}: {name}: {}", raw.trim()));
            }
        }
    }
    let lines = source.lines().count();
    if lines > FILE_LINES_MAX {
        found.push(format!("{path}: {lines} lines, more than {FILE_LINES_MAX}"));
    }
    found
}

/// Line at which a file's own `mod tests { ... }` begins; one past the end if there is none.
fn unit_tests_begin(code: &[&str]) -> usize {
    code.windows(2)
        .position(|pair| pair[0] == "#[cfg(test)]" && pair[1] == "mod tests {")
        .unwrap_or(code.len())
}

/// Whether the root of a library forbids unsafe code for itself and does not only inherit it.
pub(crate) fn forbids_unsafe(library: &str) -> bool {
    code_only(library)
        .lines()
        .any(|line| line.trim() == "#![forbid(unsafe_code)]")
}
