//! Every decoder of bytes that come from the network, a file or a child process, as a function of bytes alone.
//!
//! The ordinary tests (`tests/decoders.rs`) and the fuzz target (`tests/fuzz`) run exactly this code. A decoder panics
//! where it breaks a law of its own, such as decode(encode(x)) = x, and so do these functions.

mod acting;
mod files;
mod planted;
mod programs;
mod samples;
mod scratch;
mod text;
mod wire;

/// Bytes that the production code wrote, and what they are.
pub type Example = (&'static str, Vec<u8>);

/// A decoder.
#[derive(Debug, Clone, Copy)]
pub struct Decoder {
    /// Name of its folder below `tests/fuzz/corpus`.
    pub name: &'static str,
    /// Whether the bytes were taken for valid. Panics if a law is broken.
    pub decode: fn(&[u8]) -> bool,
    /// Valid bytes.
    pub examples: fn() -> Vec<Example>,
    /// Whether a checksum covers every byte, so that none may be changed unnoticed.
    pub is_sealed: bool,
    /// Mutated inputs of an ordinary run: as many as take about half a second.
    pub mutations: u32,
}

const fn decoder(
    name: &'static str,
    decode: fn(&[u8]) -> bool,
    examples: fn() -> Vec<Example>,
    mutations: u32,
) -> Decoder {
    Decoder {
        name,
        decode,
        examples,
        is_sealed: false,
        mutations,
    }
}

/// The same behind a checksum.
const fn sealed(decoder: Decoder) -> Decoder {
    Decoder {
        is_sealed: true,
        ..decoder
    }
}

/// All decoders.
pub const DECODERS: &[Decoder] = &[
    decoder("observed", acting::observed, acting::observations, 8_000),
    decoder("acted", acting::acted, acting::replies, 8_000),
    decoder(
        "acknowledgement",
        wire::acknowledgement,
        wire::acknowledgements,
        20_000,
    ),
    decoder(
        "conversation",
        wire::conversation,
        wire::conversations,
        8_000,
    ),
    decoder("join-network", wire::network, wire::networks, 8_000),
    decoder("join", wire::join, wire::joins, 4_000),
    decoder("snapshot", wire::snapshot, wire::snapshots, 20_000),
    decoder("unroll", wire::unroll, wire::unrolls, 8_000),
    sealed(decoder(
        "checkpoint",
        files::checkpoint,
        files::checkpoints,
        8_000,
    )),
    decoder("checkpoint-content", files::content, files::contents, 8_000),
    decoder("checkpoint-store", files::store, files::stores, 4_000),
    sealed(decoder(
        "recording",
        files::recording,
        files::recordings,
        8_000,
    )),
    decoder("learner-life", files::life, files::lives, 3_000),
    decoder("metrics", files::metrics, files::metrics_files, 3_000),
    decoder("safetensors", files::safetensors, files::policies, 8_000),
    decoder(
        "certificate",
        files::certificate,
        files::certificates,
        3_000,
    ),
    decoder("certificate-label", files::label, files::labels, 8_000),
    decoder("private-key", files::key, files::keys, 3_000),
    decoder("tokens", files::tokens, files::token_files, 3_000),
    decoder(
        "configuration",
        text::configuration,
        text::configurations,
        60,
    ),
    decoder("configuration-sets", text::sets, text::set_lists, 60),
    decoder("lag-injection", text::injection, text::injections, 30_000),
    decoder(
        "environment-options",
        text::options,
        text::option_tables,
        4_000,
    ),
    decoder("learner-event", text::event, text::events, 8_000),
    decoder("http-host", programs::host, programs::hosts, 30_000),
    decoder("python-answer", programs::answer, programs::answers, 8_000),
    decoder(
        "run-policy",
        programs::policy,
        programs::saved_policies,
        3_000,
    ),
    decoder(
        "run-directory",
        programs::run_files,
        programs::run_directories,
        2_000,
    ),
    decoder("lab-rows", programs::rows, programs::row_files, 3_000),
    decoder(
        "status-answer",
        programs::status,
        programs::status_answers,
        20_000,
    ),
];

/// Decoders with a fault each, to see that it is found.
pub const PLANTED: &[Decoder] = planted::PLANTED;

/// The decoder of that name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Decoder> {
    DECODERS
        .iter()
        .chain(PLANTED)
        .find(|decoder| decoder.name == name)
}
