#![no_main]

use testing::stranger;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| stranger::file(bytes));
