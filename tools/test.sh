#!/usr/bin/env bash
# Builds everything with warnings as errors and runs every test; then what reads bytes from strangers
# once more under AddressSanitizer and UndefinedBehaviorSanitizer. Ends with one line that counts the
# tests; exits non-zero when one failed.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
source "$root/tools/setup.sh"
export LAPIDARY_SHARED="${LAPIDARY_SHARED:-$root/../shared}"
status=0

# run_tests PRESET [CTEST OPTION...]: GoogleTest programs leave their counts in test-results/.
run_tests() {
  local folder=$root/build/$1
  shift
  rm -rf "$folder/test-results" && mkdir -p "$folder/test-results"
  GTEST_OUTPUT="xml:$folder/test-results/" ctest --test-dir "$folder" --output-on-failure "$@" || status=$?
}

build ci
run_tests ci
LAPIDARY="$root/build/ci/lapidary" "$root/tools/test_server.sh" || status=$?
build dev parser_tests
run_tests dev -R '^(formats_test|text_test|grammar_test|convert_test|fuzz_.*)$'

python3 "$root/tools/count_tests.py" "$root/build/ci" "$root/build/dev"
exit $status
