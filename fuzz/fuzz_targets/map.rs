#![no_main]

use testing::hostile;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::map(bytes));
