#!/usr/bin/env bash
# The whole way on a real small model, in about two minutes after the build: convert, inspect,
# quantize, run, teach a new skill, merge, and two verdicts. Usage: tools/demo.sh [OUT_DIR]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
source "$root/tools/setup.sh"
build release
out=${1:-$root/demo-out}
rm -rf "$out" && mkdir -p "$out"
lapidary="$root/build/release/lapidary"
cd "$out"

step() { printf '\n\033[1m== %s\033[0m\n' "$1"; }
show() { printf '$ lapidary %s\n' "$*"; "$lapidary" "$@"; }
# A verdict is an answer, whatever its exit status (0 PASS, 1 FAIL, 2 INCONCLUSIVE).
judge() {
  printf '$ lapidary %s\n' "$*"
  local status=0
  "$lapidary" "$@" || status=$?
  [ $status -le 2 ]
}

step "A trained checkpoint of the Gemma 4 architecture becomes one file"
show convert "$root/tests/data/nano-e" -o nano-e.lap
show inspect nano-e.lap --summary

step "Four bits and three bits"
show quantize nano-e.lap -o nano-e-w4.lap --weights w4 --quiet
show quantize nano-e.lap -o nano-e-w3.lap --weights w3 --quiet

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

step "A new skill: Roman numerals, mixed with 15 % general data"
python3 "$root/tools/demo_data.py" "$root/tests/data/skills.jsonl" "$out"
show run nano-e.lap --greedy --quiet -p "Write 276 as a Roman numeral."
if "$lapidary" finetune --help >/dev/null 2>&1; then
  show finetune nano-e-w4.lap --data roman.jsonl --general general.jsonl --general-share 0.15 \
    --rank 16 --alpha 32 --lr 0.003 --schedule cosine --epochs 2 --context 256 --batch-tokens 2048 \
    -o tuned --quiet
  show run nano-e-w4.lap --adapter tuned --greedy --quiet -p "Write 276 as a Roman numeral."
  show merge nano-e.lap tuned -o tuned.lap --quiet
else
  echo "(this build has no LibTorch, so the fine-tuning is left out)"
fi

step "Verdict 1: quantized against original"
judge verify nano-e.lap nano-e-w4.lap --text "$root/tests/data/own.txt" --limit-tokens 8000 \
  --context 1024 --html quantized.html --quiet
if [ -f tuned.lap ]; then
  step "Verdict 2: tuned against original"
  judge verify nano-e.lap tuned.lap --text "$root/tests/data/own.txt" --limit-tokens 8000 \
    --context 1024 --tasks tasks.jsonl --html tuned.html --quiet
fi

step "Reports with pictures"
for report in quantized.html tuned.html; do
  if [ -f "$report" ]; then echo "$out/$report"; fi
done
