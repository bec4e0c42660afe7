#!/bin/sh
# One fuzz target for so many seconds, from its seeds and what earlier runs kept: fuzz/run.sh file|pickle [SECONDS=600].
set -eu
target=$1
cd "$(dirname "$0")"
mkdir -p "corpus/$target"
RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir . --sanitizer none "$target" "corpus/$target" "seeds/$target" -- \
    -dict="dictionaries/$target.dict" -max_len=32768 -timeout=10 -rss_limit_mb=2048 \
    -max_total_time="${2:-600}" -print_final_stats=1
