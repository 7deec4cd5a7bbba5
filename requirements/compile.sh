#!/usr/bin/env bash
# Compile the hashed lock files from pyproject.toml.
#
#   requirements/compile.sh              versions stay as they are, unless pyproject.toml asks otherwise
#   requirements/compile.sh --upgrade    every version is taken anew
#
# dev.txt is compiled first and holds everything; each other file is constrained by it, so that a version is chosen
# once for every deployable. The files name no index: whoever installs decides where packages come from, the hashes
# decide what they are.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

uv=.venv/bin/uv
if [[ ! -x $uv ]]; then
  echo "requirements/compile.sh: $uv is missing; run 'make setup' first." >&2
  exit 1
fi

lock() {
  local extra=$1
  shift
  UV_CUSTOM_COMPILE_COMMAND="make lock" "$uv" pip compile --quiet --generate-hashes --no-emit-index-url \
    --python-version 3.11 --extra "$extra" "$@" pyproject.toml --output-file "requirements/$extra.txt"
  echo "requirements/$extra.txt: $(grep -c '==' "requirements/$extra.txt") packages"
}

lock dev "$@"
for extra in serving streaming training retraining infra demo spark; do
  rm -f "requirements/$extra.txt"
  lock "$extra" --constraints requirements/dev.txt
done
