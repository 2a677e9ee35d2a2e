#!/usr/bin/env bash
# Runs the kernel tests under valgrind, which sees reads of memory that nobody wrote; ASan does not.
#
# Valgrind knows no wider instruction set than AVX2 and shows a CPU without them: the reference and
# the avx2 table are what runs. The wider ones are left to ASan (preset dev). Takes five minutes; needs
# valgrind, which nothing else does. Arguments go to the tests: tools/valgrind_kernels.sh
# --gtest_filter='*Matmul*'. Left out unless asked for: a statistic over many rings, six minutes here,
# whose search other tests run too. Only definite leaks count: the C library keeps the memory of
# ended threads for the next ones.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
command -v valgrind >/dev/null || { echo "valgrind is not installed; skipped" >&2; exit 0; }
source tools/setup.sh
build release kernels_test
export GTEST_FILTER=${GTEST_FILTER:--TrellisSearch.LeavesTheErrorThatTheoryAllows}
valgrind --quiet --error-exitcode=1 --leak-check=full --show-leak-kinds=definite \
  --errors-for-leak-kinds=definite build/release/tests/kernels/kernels_test "$@"
