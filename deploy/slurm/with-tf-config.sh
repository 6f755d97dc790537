#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs a command as worker INDEX of a cluster: sets TF_CONFIG, then becomes it.
# Start the same line on every host, with its own INDEX, within a few minutes:
#   deploy/slurm/with-tf-config.sh 0 host0:12345 host1:12345 -- quern-train --data … --run …
#   deploy/slurm/with-tf-config.sh 1 host0:12345 host1:12345 -- quern-train --data … --run …
set -euo pipefail

fail() {
  echo "error: $1. Usage: with-tf-config.sh INDEX HOST:PORT… -- COMMAND…" >&2
  exit 2
}

[ $# -gt 0 ] || fail "wanted a worker index, found nothing"
index=$1
shift
workers=()
while [ $# -gt 0 ] && [ "$1" != "--" ]; do
  [[ $1 =~ ^[^\"\\]+:[0-9]+$ ]] || fail "wanted HOST:PORT, found $1"
  workers+=("\"$1\"")
  shift
done
[ $# -gt 1 ] || fail "wanted -- and a command after the workers, found none"
shift
[[ $index =~ ^[0-9]+$ ]] || fail "wanted a worker index, found $index"
((index < ${#workers[@]})) || fail "wanted an index below ${#workers[@]}, found $index"

list=$(IFS=,; echo "${workers[*]}")
export TF_CONFIG="{\"cluster\": {\"worker\": [$list]}, \"task\": {\"type\": \"worker\", \"index\": $index}}"
exec "$@"
