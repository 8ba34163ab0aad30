//! One decoder, in a process of its own whose memory is limited: examples, corpus and mutations. A process that ends
//! otherwise than with 0 has found a fault, and the input is in the file that it was told.
//!
//! Arguments: name of the decoder, seed, number of mutations, file for the input in hand, files of the corpus.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a test fails"
)]

use std::{
    env,
    fs::{self, File},
    os::unix::fs::FileExt as _,
    thread,
};

use rustix::process::{Resource, Rlimit, setrlimit};
use springbok_tests::{
    decoders::{self, Decoder},
    mutations::Mutator,
};

/// By how much the process may grow, whatever it is given: half for what a decoder may ask for by its own limits, the
/// rest for buffers of the standard library.
const GROWTH_BYTES_MAX: u64 = 64 << 20;
/// The stack that threads get which serve the network.
const STACK_BYTES: usize = 2 << 20;

/// Where the input in hand is kept: whatever happens, it can be looked at afterwards.
struct InHand(File);

impl InHand {
    fn take(&self, bytes: &[u8]) {
        self.0
            .set_len(bytes.len() as u64)
            .expect("the file of inputs");
        self.0.write_all_at(bytes, 0).expect("the file of inputs");
    }
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [name, seed, mutations, in_hand, corpus @ ..] = arguments.as_slice() else {
        panic!("five arguments are expected, not {arguments:?}");
    };
    let decoder = *decoders::named(name).expect("a decoder of that name");
    let (seed, mutations) = (
        seed.parse().expect("a seed"),
        mutations.parse().expect("a number"),
    );
    let in_hand = InHand(File::create(in_hand).expect("the file of inputs"));
    let corpus: Vec<Vec<u8>> = corpus
        .iter()
        .map(|path| fs::read(path).expect(path))
        .collect();
    let thread = thread::Builder::new().stack_size(STACK_BYTES);
    let worker = thread.spawn(move || run(&decoder, seed, mutations, &in_hand, &corpus));
    if worker.expect("a thread").join().is_err() {
        std::process::exit(101);
    }
}

fn run(decoder: &Decoder, seed: u64, mutations: u32, in_hand: &InHand, corpus: &[Vec<u8>]) {
    let decode = |bytes: &[u8]| {
        in_hand.take(bytes);
        (decoder.decode)(bytes)
    };
    let examples: Vec<(&str, Vec<u8>)> = (decoder.examples)();
    // Once before memory is limited: what is made only once does not count.
    for (name, bytes) in &examples {
        assert!(decode(bytes), "the example {name} is not taken");
    }
    limit_memory();
    for bytes in corpus {
        decode(bytes);
    }
    let examples: Vec<Vec<u8>> = examples.into_iter().map(|(_, bytes)| bytes).collect();
    let originals: Vec<Vec<u8>> = examples.into_iter().chain(corpus.iter().cloned()).collect();
    let mut mutator = Mutator::new(&originals, seed);
    for _ in 0..mutations {
        let bytes = mutator.input();
        let taken = decode(&bytes);
        let is_original = originals.contains(&bytes);
        assert!(
            !(decoder.is_sealed && taken) || is_original,
            "a changed input is taken for valid"
        );
    }
}

/// Memory that is asked for counts, also if it is never touched.
fn limit_memory() {
    let status = fs::read_to_string("/proc/self/status").expect("/proc");
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kibibytes = size.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let bytes = kibibytes.expect("the size of the process") * 1024 + GROWTH_BYTES_MAX;
    let limit = Rlimit {
        current: Some(bytes),
        maximum: None,
    };
    setrlimit(Resource::As, limit).expect("a limit of memory");
}
