#!/usr/bin/env bash
# Make .venv and install one lock file into it, then Tollgate itself, editable.
#
#   requirements/install.sh dev|demo|serving|...
#
# Called by the Makefile when the environment is missing or the lock file has changed. Every failure ends with one
# sentence on stderr; what pip said is kept in .venv/install.log.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

extra=${1:?"usage: requirements/install.sh EXTRA"}
lock=requirements/$extra.txt
log=.venv/install.log
# Room for the unpacked packages and pip's working copies, in MiB.
case $extra in
  dev | retraining) room=3600 ;;
  demo | training) room=2800 ;;
  *) room=1000 ;;
esac

fail() {
  printf 'setup: %s\n' "$1" >&2
  exit 1
}

# The first interpreter that is new enough; empty if there is none.
interpreter() {
  local candidate
  for candidate in ${PYTHON:-python3.11 python3}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      echo "$candidate"
      return
    fi
  done
}

# One sentence for the last pip run, from its log.
explain() {
  if grep -qE 'No space left on device|Errno 28|Disk quota exceeded' "$log"; then
    echo "the disk is full; free about $room MiB below $PWD and run the command again."
  elif grep -q 'DO NOT MATCH THE HASHES' "$log"; then
    echo "a package differs from its hash in $lock, so nothing was installed; check the package index in use ($log names the package)."
  elif grep -qE 'NewConnectionError|ConnectTimeout|ReadTimeout|ConnectionReset|SSLError|ProxyError|Max retries|Network is unreachable|name resolution|ConnectionError' "$log"; then
    echo "the package index cannot be reached; check the network, or point pip at a mirror with PIP_INDEX_URL ($log has the details)."
  elif grep -qE 'No matching distribution|Could not find a version' "$log"; then
    echo "the package index cannot be reached or has no wheel of '$(sed -nE 's/^ERROR: No matching distribution found for ([^ ]+).*/\1/p' "$log" | head -1)' for $(.venv/bin/python -V) on this platform; check the network, or point pip at a mirror with PIP_INDEX_URL (the locks are made for Python 3.11 on Linux; $log has the details)."
  else
    echo "pip failed: $(grep -E '^(ERROR|error)' "$log" | tail -1 | cut -c1-200) ($log has the details)."
  fi
}

# Shows how far pip is: one line that rewrites itself on a terminal, a line every 50 packages elsewhere.
progress() {
  local total=$1 terminal=0
  [[ -t 2 ]] && terminal=1
  awk -v total="$total" -v terminal="$terminal" '
    function show(text) {
      if (terminal) printf "\r\033[Ksetup: %s", text > "/dev/stderr"
      else printf "setup: %s\n", text > "/dev/stderr"
      fflush()
    }
    /^Collecting |^Requirement already satisfied/ {
      seen += 1
      if (seen <= total && (terminal || seen % 50 == 0)) show(sprintf("%d of %d packages fetched", seen, total))
    }
    /^Installing collected packages/ { show(sprintf("unpacking %d packages", total)) }
    END { if (terminal) printf "\r\033[K" > "/dev/stderr" }'
}

[[ -f $lock ]] || fail "$lock does not exist; the locks are $(cd requirements && echo *.txt)."

if ! .venv/bin/python -c 'import pip' >/dev/null 2>&1; then
  python=$(interpreter)
  [[ -n $python ]] || fail "Python 3.11 or newer is needed and neither python3.11 nor python3 is one; install it, or name one with PYTHON=/path/to/python."
  rm -rf .venv
  if ! said=$("$python" -m venv .venv 2>&1); then
    rm -rf .venv
    fail "$python cannot make a virtual environment in $PWD ($(tail -1 <<<"$said")); install its venv module (python3.11-venv on Debian) or free disk space."
  fi
fi

if [[ ! -d .venv/lib/python3.11/site-packages/numpy ]]; then
  free=$(df -Pm . | awk 'NR == 2 { print $4 }')
  ((free >= $room)) ||
    fail "$extra needs about $room MiB of disk and $PWD has $free MiB left; free some and run the command again."
fi

total=$(grep -c '==' "$lock")
echo "setup: installing $total locked packages for '$extra' into .venv (once; minutes on a cold cache)" >&2
started=$SECONDS
# Bytecode is left to the first import of each module: most of what is installed is never imported.
if ! .venv/bin/python -m pip install --no-input --disable-pip-version-check --progress-bar off --no-compile \
  --require-hashes --only-binary :all: -r "$lock" 2>&1 | tee "$log" | progress "$total"; then
  fail "$(explain)"
fi
if ! .venv/bin/python -m pip install --no-input --disable-pip-version-check --quiet --no-deps --no-build-isolation \
  --editable . >"$log" 2>&1; then
  fail "$(explain)"
fi
echo "setup: ready after $((SECONDS - started)) s" >&2
