#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| callfeed_fuzz::capture(input));
