#!/usr/bin/env bash
# Measures Lapidary beside llama.cpp and PEFT on this machine and prints Markdown tables.
#
#   tools/bench_peer.sh [speed] [--model e2b|26b-a4b] [--weights w4] [--layers N] [--tests LIST]
#                       [--threads N] [--repetitions N]
#       speed of the same synthetic model in both formats: table of docs/performance.md
#   tools/bench_peer.sh kv [--models DIR...] [--text FILE] [--tokens N] [--context N]
#       loss of KV-cache codes at the same tokens: table of docs/kv-cache.md
#   tools/bench_peer.sh gguf [--models DIR...] [--types LIST]
#       llama.cpp on our GGUF files beside transformers and ourselves: table of docs/interop.md
#   tools/bench_peer.sh quality [--models DIR...] [--calibrate FILE] [--text FILE] [--tasks FILE]
#       loss per size of quantized weights, both calibrated on the same text: table of docs/results.md;
#       with --gguf our files are GGUF, too, and run by llama.cpp: table of docs/interop.md
#   tools/bench_peer.sh serve [--streams N] [--prompt-tokens N] [--new-tokens N] [--prefix N]
#       many answers at once from both servers: table of docs/serving.md
#   tools/bench_peer.sh finetune [--shape small|e2b-width] [--model DIR] [--rows N] [--tokens N]
#                       [--rank R] [--steps N] [--rounds N] [--shares 1.0,0.4] [--under COMMAND]
#       training steps beside transformers and PEFT (from PyPI): table of docs/finetune.md
#
# The first run builds llama.cpp (some minutes) and writes the models (3 GB for e2b) into the user's
# cache folder; set LAPIDARY_BENCH_DIR to put the models elsewhere.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
case "${1:-}" in -h | --help) sed -n '2,21s/^# \{0,1\}//p' "$0"; exit 0 ;; esac

source "$root/tools/setup.sh"
if [ "${1:-}" = finetune ]; then
  shift
  source "$root/tools/peer/python_peers.sh"
  build release lapidary
  build release finetune_driver
  install_peers
  run_peer_python "$root/tools/peer/compare_finetune.py" --lapidary "$root/build/release/lapidary" \
    --driver "$root/build/release/tools/finetune_driver" "$@"
fi
source "$root/tools/peer/llama_cpp.sh"
build release lapidary
build_llama_cpp

what=speed
case "${1:-}" in speed | kv | gguf | quality | serve) what=$1; shift ;; esac
extra=()
if [ $what = quality ]; then
  build_llama_quantize
  extra=(--llama-imatrix "$llama_imatrix" --llama-quantize "$llama_quantize")
fi
if [ $what = serve ]; then
  build_llama_server
  extra=(--llama-server "$llama_server")
fi
exec python3 "$root/tools/peer/compare_$what.py" --lapidary "$root/build/release/lapidary" \
  --llama-bench "$llama_bench" --llama-driver "$llama_driver" --llama-version "$llama_version" \
  "${extra[@]}" "$@"
