#!/usr/bin/env bash
# Fine-tunes a small model under PyTorch's own torchrun: two processes must have the losses of one
# with the same rows per step, and a run that lost a process must go on to the same adapter.
#
#   tools/test_torchrun.sh
#
# torchrun comes with LibTorch's Python package, its needs from PyPI (once). Half a minute.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
case "${1:-}" in -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;; esac

source "$root/tools/setup.sh"
source "$root/tools/peer/python_peers.sh"
install_peers
build release lapidary
lapidary=$root/build/release/lapidary
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$lapidary" convert "$root/tests/data/nano-e" -o "$work/model.lap" >/dev/null 2>&1
for i in $(seq 60); do
  word=$(printf 'x%.0s' $(seq $((1 + i % 9))))
  printf '{"prompt": "How many letters has %s?", "completion": "%d"}\n' "$word" $((1 + i % 9))
done >"$work/data.jsonl"
# A fresh start of the worker writes its process's number down, so that one can be lost on purpose.
cat >"$work/worker" <<'WORKER'
#!/bin/sh
echo $$ >"$1.$RANK"
shift
exec "$@"
WORKER
chmod +x "$work/worker"

# tune NAME STEPS [OPTION...]: the command of one process
tune() {
  command=("$lapidary" finetune "$work/model.lap" --data "$work/data.jsonl" --context 40 --quiet
    --batch-tokens 160 --rank 4 --lr 0.0002 --threads 1 --precision f32 --steps "$2" -o "$work/$1" "${@:3}")
}
under_torchrun() {
  (run_peer_python -m torch.distributed.run --no-python --standalone --nproc-per-node 2 "$@" \
    2>"$work/log")
}

tune one 24
"${command[@]}" >/dev/null
tune two 24
under_torchrun "${command[@]}" >/dev/null || { cat "$work/log" >&2; exit 1; }

# The second process dies in the middle; the first says so and leaves a checkpoint.
tune lost 2000 --checkpoint-steps 8
under_torchrun "$work/worker" "$work/process" "${command[@]}" >/dev/null &
launcher=$!
until [ -e "$work/lost/checkpoint/step-00000008" ]; do sleep 0.1; kill -0 $launcher; done
kill -9 "$(cat "$work/process.1")"
! wait $launcher || { echo "torchrun took the loss of a process for success" >&2; exit 1; }
grep -m1 '^lapidary: ' "$work/log" || { cat "$work/log" >&2; exit 1; }
done_steps=$(ls "$work/lost/checkpoint" | tail -1 | grep -o '[0-9]*$' | sed 's/^0*//')

# From there on as if nothing had happened. The same options: a shorter run is another one.
cp -r "$work/lost" "$work/again"
resume() {
  tune "$1" 2000 --checkpoint-steps 8 --resume
  under_torchrun "$work/worker" "$work/process" "${command[@]}" >/dev/null &
  launcher=$!
  until [ "$(grep -c '"loss"' "$work/$1/log.jsonl")" -ge $((done_steps + 24)) ]; do
    sleep 0.1
    kill -0 $launcher
  done
  kill -9 "$(cat "$work/process.1")"
  wait $launcher || true
}
resume lost
resume again

python3 - "$work" "$done_steps" <<'REPORT'
import json
import sys

work, done = sys.argv[1], int(sys.argv[2])


def losses(name):
    lines = [json.loads(line) for line in open(f"{work}/{name}/log.jsonl")]
    return [line["loss"] for line in lines if "loss" in line]


one, two = losses("one"), losses("two")
apart = max(abs(a - b) / a for a, b in zip(one, two))
print(f"24 steps: loss {one[0]:.4f} -> {one[-1]:.4f}; two processes differ by at most {apart:.1e}")
first, second = losses("lost"), losses("again")
print(f"lost after step {done}: two resumed runs have the same {done + 24} losses")
n = done + 24
sys.exit(len(one) != 24 or len(two) != 24 or apart > 1e-4 or first[:n] != second[:n])
REPORT
