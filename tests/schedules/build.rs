//! Writes copies of the hand-off with a fault each, to see that the tests find it. A fault replaces text of the real file,
//! which must be there.

use std::{env, error::Error, fs, path::Path};

/// Name of a copy, and what is replaced by what.
const FAULTS: [(&str, &[(&str, &str)]); 5] = [
    // Who waits for a place is not told of one: the permit is lost with the unroll.
    (
        "lost",
        &[(
            "Ok(queued) => Ok(queued.item),",
            "Ok(queued) => { std::mem::forget(queued._permit); Ok(queued.item) }",
        )],
    ),
    // What is evicted stays in the queue as well.
    (
        "twice",
        &[
            (
                "impl<T> QueueSender<T> {",
                "impl<T: Clone> QueueSender<T> {",
            ),
            (
                "evicted.push(displaced.item);",
                "evicted.push(displaced.item.clone()); let _ = self.sender.try_send(displaced);",
            ),
        ],
    ),
    // A place is taken before there is one.
    (
        "unasked",
        &[("_permit: Some(permit),", "_permit: { drop(permit); None },")],
    ),
    // What is only looked at gives its place back.
    (
        "careless",
        &[(
            "self.receiver.try_recv().ok().map(Held)",
            "self.receiver.try_recv().ok().map(|mut queued| { queued._permit = None; Held(queued) })",
        )],
    ),
    // An evicting queue waits for a place like any other.
    (
        "waits",
        &[(
            "if let Some(oldest) = &self.oldest {",
            "if let (Some(oldest), false) = (&self.oldest, true) {",
        )],
    ),
];

fn main() -> Result<(), Box<dyn Error>> {
    let source = "../../learner/src/queue/hand_off.rs";
    println!("cargo:rerun-if-changed={source}");
    println!("cargo:rerun-if-changed=build.rs");
    let text = fs::read_to_string(source)?;
    // What is included in the middle of a file has no documentation of its own.
    let lines = text.lines().filter(|line| !line.starts_with("//!"));
    let text: String = lines.map(|line| format!("{line}\n")).collect();
    let out = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    for (name, replacements) in FAULTS {
        let mut faulty = text.clone();
        for (good, bad) in replacements {
            if faulty.matches(good).count() != 1 {
                return Err(format!("{source} has not exactly one place that says: {good}").into());
            }
            faulty = faulty.replace(good, bad);
        }
        fs::write(Path::new(&out).join(format!("{name}.rs")), faulty)?;
    }
    Ok(())
}
