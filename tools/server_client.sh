#!/usr/bin/env bash
# What test_server.sh and soak.sh share: the clients' packages, and a model to serve; sourced.
#
# The packages come from PyPI into the user's cache folder, once.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
client_folder="${XDG_CACHE_HOME:-$HOME/.cache}/lapidary/server-client"
lapidary="${LAPIDARY:-$root/build/release/lapidary}"
[ -x "$lapidary" ] || lapidary=$root/build/ci/lapidary
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill -KILL $server 2>/dev/null; rm -rf "$work"' EXIT

install_clients() {
  export PYTHONPATH="$client_folder"
  python3 -c 'import openai, anthropic' 2>/dev/null && return
  rm -rf "$client_folder"
  python3 -m pip install --quiet --target "$client_folder" openai anthropic >&2
}

make_model() { "$lapidary" quantize "$root/tests/data/nano-e" -o "$work/nano-e.lap" --weights w4 --quiet; }

# start_server OPTION...: on a free port; sets `server` and `url`.
start_server() {
  "$lapidary" serve "$work/nano-e.lap" --port 0 --json --quiet "$@" >"$work/said" &
  server=$!
  for _ in $(seq 100); do
    url=$(sed -n 's/.*"url":"\([^"]*\)".*/\1/p' "$work/said")
    [ -n "$url" ] && return
    kill -0 $server 2>/dev/null || { echo "the server did not start" >&2; exit 1; }
    sleep 0.1
  done
  echo "the server did not say where it listens" >&2
  exit 1
}

# Asks it to end, as an operator would, and expects that it does so well.
stop_server() {
  kill -TERM $server
  wait $server
  server=
}
