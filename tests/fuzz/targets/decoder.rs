//! The decoder that the variable `SPRINGBOK_DECODER` names, on the bytes that libFuzzer makes. One program for all: linking
//! takes longer than fuzzing.
#![no_main]

use std::{env, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use springbok_tests::decoders::{Decoder, named};

static DECODER: LazyLock<&Decoder> = LazyLock::new(|| {
    let name = env::var("SPRINGBOK_DECODER").expect("SPRINGBOK_DECODER names a decoder");
    named(&name).expect("there is a decoder of that name")
});

fuzz_target!(|bytes: &[u8]| {
    (DECODER.decode)(bytes);
});
