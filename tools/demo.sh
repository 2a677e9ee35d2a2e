#!/usr/bin/env bash
# The whole way on a real small model, in about two minutes after the build: convert, inspect,
# quantize, run, teach a new skill, merge, and two verdicts. Everything it makes lies in demo-out/.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
source "$root/tools/setup.sh"
build release lapidary
out=$root/demo-out
rm -rf "$out" && mkdir -p "$out"
lapidary="$root/build/release/lapidary"
cd "$out"

step() { printf '\n\033[1m== %s\033[0m\n' "$1"; }
# Prints a command as one would type it, then runs it.
echo_command() {
  printf '$ lapidary'
  local word
  for word in "$@"; do
    case $word in *[[:space:]]*) printf " '%s'" "$word" ;; *) printf ' %s' "$word" ;; esac
  done
  printf '\n'
}
show() { echo_command "$@"; "$lapidary" "$@"; }
# A verdict is an answer, whatever its exit status (0 PASS, 1 FAIL, 2 INCONCLUSIVE).
judge() {
  echo_command "$@"
  local status=0
  "$lapidary" "$@" || status=$?
  [ $status -le 2 ]
}

step "A trained checkpoint of the Gemma 4 architecture becomes one file"
show convert ../tests/data/nano-e -o nano-e.lap
show inspect nano-e.lap --summary

step "Four bits: rounded as it is, and shared out and rounded by what a text shows"
show quantize nano-e.lap -o nano-e-w4.lap --weights w4 --quiet
show quantize nano-e.lap -o nano-e-4.25.lap --target-bpw 4.25 --calibrate builtin \
  --report allocation.html --quiet

step "It calls tools, at four bits too"
cat > weather.json <<'JSON'
[{"type": "function", "function": {"name": "get_weather", "description": "Current weather for a city",
  "parameters": {"type": "object", "properties": {
    "city": {"type": "string", "description": "City name"},
    "unit": {"type": "string", "description": "celsius or fahrenheit"}},
   "required": ["city", "unit"]}}}]
JSON
show run nano-e-w4.lap --greedy --quiet --system "You can call functions." --tools weather.json \
  -p "What is the weather in Oslo in celsius?"

step "A new skill, from 500 generated examples and 15 % general data that hold the rest"
python3 "$root/tools/demo_data.py" "$root/tests/data/skills.jsonl" "$root/tests/data/own.txt" .
question=$'Write this as an SQL row.\nGreta Hansen is 36 years old and lives in Oslo.'
show run nano-e.lap --greedy --quiet -p "$question"
if [ -x "$lapidary-finetune" ]; then
  show finetune nano-e.lap --data rows.jsonl --general sorting.jsonl=0.45 --general other.jsonl=0.4 \
    --general text.jsonl=0.15 --general-share 0.15 --kl-to-base 10 --keep-only \
    --rank 16 --alpha 16 --lr 0.0005 --weight-decay 10 --schedule cosine --warmup 10 \
    --epochs 8 --context 256 --batch-tokens 1024 -o tuned --quiet
  show run nano-e.lap --adapter tuned --greedy --quiet -p "$question"
  show eval nano-e.lap --adapter tuned --tasks new.jsonl --quiet
  show merge nano-e.lap tuned -o tuned.lap --quiet
else
  echo "(this build has no LibTorch, so the fine-tuning is left out)"
fi

step "Verdict 1: rounded as it is, against the original"
judge verify nano-e.lap nano-e-w4.lap --text held.txt --limit-tokens 8000 --context 1024 --quiet

step "Verdict 2: calibrated, in fewer bytes"
judge verify nano-e.lap nano-e-4.25.lap --text held.txt --limit-tokens 8000 --context 1024 \
  --html quantized.html --quiet
if [ -f tuned.lap ]; then
  step "Verdict 3: tuned against original"
  judge verify nano-e.lap tuned.lap --text held.txt --limit-tokens 8000 --context 1024 \
    --tasks tasks.jsonl --html tuned.html --quiet
fi

step "Reports with pictures"
for report in allocation.html quantized.html tuned.html; do
  if [ -f "$report" ]; then echo "$out/$report"; fi
done
