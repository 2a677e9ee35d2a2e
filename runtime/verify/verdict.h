// From measurements to PASS, FAIL or INCONCLUSIVE.
//
// PASS: the worst bound of every interval is within its margin. FAIL: a loss exceeds its margin and
// its interval excludes zero. Else INCONCLUSIVE, with the sample size that would decide. Fewer than
// 2,000 text tokens cannot PASS. Two identical models must measure exactly zero and then PASS at
// any size.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/verify/endpoint.h"
#include "runtime/verify/tasks.h"
#include "runtime/verify/text_measure.h"

namespace lapidary {

enum class Verdict { kPass, kFail, kInconclusive };
std::string_view verdict_name(Verdict verdict);  // "PASS", ...
int verdict_exit_status(Verdict verdict);        // 0, 1, 2

std::string grouped(int64_t n);  // 12345 as "12,345"

struct Margins {
  double nats = 0.02, task = 0.02, pooled = 0.01;
};

struct VerifyResult {
  Verdict verdict = Verdict::kInconclusive;
  std::optional<TextComparison> text;
  std::map<std::string, TaskComparison> tasks;  // "pooled" included
  std::optional<EndpointComparison> endpoint;   // the candidate is a server
  Margins margins;
  bool identical = false;            // same weights, same options
  std::vector<std::string> reasons;  // one sentence each
};

inline constexpr int64_t kMinTextTokens = 2000;
inline constexpr int64_t kMinPositions = 200;  // of a server

// The verdict on one measure alone, as judge() uses it; for reports. `name` is the key in tasks.
Verdict judge_text(const VerifyResult& result);  // REQUIRES: result.text
// The mean KLD stands against the margin for NLL.
Verdict judge_endpoint(const VerifyResult& result);  // REQUIRES: result.endpoint
Verdict judge_task(const VerifyResult& result, const std::string& name);
double task_margin(const VerifyResult& result, const std::string& name);

// Fills verdict and reasons from the rest; decisive reasons stand first. Throws kUsage when nothing
// was measured and kInternal when identical models did not measure exactly zero.
void judge(VerifyResult& result);

}  // namespace lapidary
