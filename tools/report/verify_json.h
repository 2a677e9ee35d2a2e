// The result of `lapidary verify` for programs: JSON with fixed fields, and JUnit XML for CI
// servers.
#pragma once

#include <string>

#include "runtime/verify/verdict.h"

namespace lapidary {

// One JSON object; the fields are listed in docs/verify.md. "text" is null when no text was
// compared.
std::string verify_json(const VerifyResult& result);

// One test case per measure: FAIL is a failure, INCONCLUSIVE is a skipped test with its reason, as
// continuous-integration servers know no third outcome. `name` is the suite's.
std::string verify_junit(const VerifyResult& result, const std::string& name);

}  // namespace lapidary
