#!/usr/bin/env bash
# Builds everything with warnings as errors and runs every test. Usage: tools/test.sh [PRESET]
# Ends with one line that counts the tests; exits non-zero when one failed.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
source "$root/tools/setup.sh"
preset=${1:-ci}
build "$preset"

export LAPIDARY_SHARED="${LAPIDARY_SHARED:-$root/../shared}"
results="$root/build/$preset/test-results"
rm -rf "$results" && mkdir -p "$results"
status=0
GTEST_OUTPUT="xml:$results/" ctest --test-dir "$root/build/$preset" --output-on-failure || status=$?

# GoogleTest writes one XML per program; programs without it (fuzz drivers, scripts) count as one each.
python3 - "$results" "$root/build/$preset" <<'PY'
import glob, re, sys
passed = failed = skipped = 0
for path in glob.glob(sys.argv[1] + "/*.xml"):
    text = open(path, encoding="utf-8").read()
    cases = re.findall(r"<testcase .*?(?:/>|</testcase>)", text, re.S)
    for case in cases:
        if "<failure" in case: failed += 1
        elif 'result="skipped"' in case or "<skipped" in case: skipped += 1
        else: passed += 1
xml_programs = {re.sub(r".*/|\.xml$", "", p) for p in glob.glob(sys.argv[1] + "/*.xml")}
log = open(sys.argv[2] + "/Testing/Temporary/LastTest.log", encoding="utf-8", errors="replace").read()
for name, rest in re.findall(r"\d+/\d+ Test: (\S+)\n(.*?)(?=\n\d+/\d+ Test: |\Z)", log, re.S):
    if name in xml_programs: continue
    if "Test Passed." in rest: passed += 1
    elif "Test Skipped" in rest: skipped += 1
    else: failed += 1
print(f"{passed} passed, {failed} failed, {skipped} skipped")
PY
exit $status
