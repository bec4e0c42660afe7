#!/usr/bin/env bash
# The page of `lseg-fast serve` in a real Chromium with a webcam made of known photos: bash tests/serve/run.sh BINARY
#
# BINARY is built with --features serve and the demo model. LSEG_CHROMIUM names the browser (Debian: apt-get install chromium; else
# `playwright install chromium`), LSEG_PYTHON a Python that has requirements.txt. Where the system allows, all of it runs without
# a network, so that nothing that the page needs can come from elsewhere.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
binary="$(realpath "${1:?the program, such as target/release/lseg-fast}")"
python="${LSEG_PYTHON:-}"
if [ -z "$python" ]; then
    environment="${TMPDIR:-/tmp}/lseg-serve-test"
    [ -x "$environment/bin/python" ] || python3 -m venv "$environment"
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
    python="$environment/bin/python"
fi
if unshare --net true 2> /dev/null; then
    exec unshare --net "$python" "$here/page.py" "$binary"
fi
echo "with the network: unshare --net is not allowed here"
exec "$python" "$here/page.py" "$binary"
