#!/bin/sh
# One fuzz target for so many seconds, from its seeds and what earlier runs kept: fuzz/run.sh TARGET [SECONDS=600].
set -eu
target=$1
cd "$(dirname "$0")"
case $target in
    photo | mask | map | labels | points | palette | legend) longest=4096 ;;
    *) longest=32768 ;;
esac
mkdir -p "corpus/$target"
# The readers take files: each input is written to one, in memory where the system has such a folder.
TMPDIR=$(mktemp -d -p "$([ -d /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")")
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none "$target" "corpus/$target" "seeds/$target" -- \
    -dict="dictionaries/$target.dict" -max_len="$longest" -timeout=10 -rss_limit_mb=2048 \
    -max_total_time="${2:-600}" -print_final_stats=1
