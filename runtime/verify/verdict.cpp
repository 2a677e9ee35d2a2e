// The rules of a verdict, one measure at a time, each with the sentence that explains it.
#include "runtime/verify/verdict.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "formats/error.h"
#include "runtime/verify/statistics.h"

namespace lapidary {
namespace {

// Rounded up to two digits: a sample size is an order of magnitude, not a promise.
std::string rounded(double n) {
  const double unit = std::pow(10.0, std::max(0.0, std::floor(std::log10(std::max(n, 1.0))) - 1));
  return grouped(static_cast<int64_t>(std::ceil(n / unit - 1e-9) * unit));
}

// Differences of accuracy are spoken of in points: 0.0123 is 1.23 points.
std::string points(double share) { return fmt::format("{:.2f}", 100 * share); }

void check_identical(const VerifyResult& result) {
  if (const auto& text = result.text) {
    const bool zero = text->nll_base == text->nll_candidate && text->interval[0] == 0 &&
                      text->interval[1] == 0 && text->kld_mean == 0 && text->kld_p99 == 0 &&
                      text->top1_agreement == 1;
    if (!zero)
      fail(ErrorCode::kInternal,
           "the two models have the same weights and options but differ by {} nats on the text "
           "(mean KLD {}), expected exactly 0: the engine is not deterministic; please report this",
           text->nll_candidate - text->nll_base, text->kld_mean);
  }
  for (const auto& [name, task] : result.tasks)
    if (task.base_only != 0 || task.candidate_only != 0)
      fail(ErrorCode::kInternal,
           "the two models have the same weights and options but differ on {} items of task '{}', "
           "expected 0: the engine is not deterministic; please report this",
           task.base_only + task.candidate_only, name);
}

std::string text_sentence(const VerifyResult& result, Verdict verdict) {
  const TextComparison& text = *result.text;
  if (result.identical)
    return fmt::format(
        "Text: the two models are the same and measured exactly zero difference on {} tokens.",
        grouped(text.tokens));
  const double loss = text.nll_candidate - text.nll_base, margin = result.margins.nats;
  const double low = text.interval[0], high = text.interval[1];
  const std::string measured =
      fmt::format("{:+.4f} nats per token (95 % interval {:+.4f} to {:+.4f}, {} tokens)", loss, low,
                  high, grouped(text.tokens));
  if (verdict == Verdict::kPass)
    return fmt::format("Text: the loss is {}; even its worst bound is within the margin of {:.4f}.",
                       measured, margin);
  if (verdict == Verdict::kFail)
    return fmt::format(
        "Text: the loss is {}; it exceeds the margin of {:.4f} and its interval excludes zero.",
        measured, margin);
  if (high <= margin)
    return fmt::format("Text: the loss is {}, but a PASS needs at least {} tokens.", measured,
                       grouped(kMinTextTokens));
  // The half-width shrinks with the root of the number of tokens.
  const double distance = loss <= margin ? margin - loss : loss;
  const double half_width = loss <= margin ? high - loss : loss - low;
  if (!(distance > 0))
    return fmt::format(
        "Text: the loss is {}; it sits on the margin of {:.4f}, and no amount of text would "
        "decide.",
        measured, margin);
  const double ratio = half_width / distance;
  const double needed =
      std::max(static_cast<double>(text.tokens) * ratio * ratio, double{kMinTextTokens});
  if (!(needed < 1e12))
    return fmt::format(
        "Text: the loss is {}; it sits so near the margin of {:.4f} that no practical amount of "
        "text would decide.",
        measured, margin);
  return fmt::format(
      "Text: the loss is {}; the margin of {:.4f} lies inside the uncertainty. About {} tokens "
      "would decide.",
      measured, margin, rounded(needed));
}

std::string task_sentence(const VerifyResult& result, const std::string& name, Verdict verdict) {
  const TaskComparison& task = result.tasks.at(name);
  const std::string title =
      name == kPooledName ? "All tasks pooled" : fmt::format("Task '{}'", name);
  if (result.identical)
    return fmt::format("{}: the two models are the same and agreed on all {} items.", title,
                       grouped(task.items));
  const double margin = task_margin(result, name);
  const std::string measured =
      fmt::format("{:+.2f} points (95 % interval {:+.2f} to {:+.2f}; {} items, {} lost, {} gained)",
                  100 * task.difference, 100 * task.interval[0], 100 * task.interval[1],
                  grouped(task.items), grouped(task.base_only), grouped(task.candidate_only));
  if (verdict == Verdict::kPass)
    return fmt::format(
        "{}: the difference is {}; even its worst bound is within the margin of {} points.{}",
        title, measured, points(margin),
        task.base == 0 && task.candidate == 0
            ? " Neither model answers any of them, so this says little."
            : "");
  if (verdict == Verdict::kFail)
    return fmt::format(
        "{}: the difference is {}; the loss exceeds the margin of {} points and its interval "
        "excludes zero.",
        title, measured, points(margin));
  const bool small_loss = -task.difference <= margin;
  const int64_t needed =
      small_loss ? items_needed(task.base_only, task.candidate_only, task.items, margin)
                 : items_needed_to_exclude_zero(task.base_only, task.candidate_only, task.items);
  if (needed == 0)
    return fmt::format(
        "{}: the difference is {}; it sits so near the margin of {} points that no practical "
        "number of items would decide.",
        title, measured, points(margin));
  return fmt::format(
      "{}: the difference is {}; the margin of {} points lies inside the uncertainty. About {} "
      "items would decide.",
      title, measured, points(margin), rounded(static_cast<double>(needed)));
}

std::string endpoint_sentence(const VerifyResult& result, Verdict verdict) {
  const EndpointComparison& e = *result.endpoint;
  const std::string measured = fmt::format(
      "{:.5f} nats from this model's (95 % interval {:.5f} to {:.5f}, {} places), the best token "
      "is the same at {:.1f} %",
      e.kld_mean, e.interval[0], e.interval[1], grouped(e.positions), 100 * e.top1_agreement);
  const double margin = result.margins.nats;
  if (verdict == Verdict::kPass)
    return fmt::format("Server: its next tokens are {}; within the margin of {:.4f}.", measured,
                       margin);
  if (verdict == Verdict::kFail)
    return fmt::format(
        "Server: its next tokens are {}; more than the margin of {:.4f}: it serves something else.",
        measured, margin);
  return fmt::format(
      "Server: its next tokens are {}; a PASS needs the interval within {:.4f} and "
      "at least {} places.",
      measured, margin, kMinPositions);
}

// FAIL before INCONCLUSIVE before PASS.
int severity(Verdict verdict) {
  return verdict == Verdict::kFail ? 0 : verdict == Verdict::kInconclusive ? 1 : 2;
}

}  // namespace

std::string_view verdict_name(Verdict verdict) {
  switch (verdict) {
    case Verdict::kPass:
      return "PASS";
    case Verdict::kFail:
      return "FAIL";
    case Verdict::kInconclusive:
      return "INCONCLUSIVE";
  }
  return "";
}

std::string grouped(int64_t n) {
  std::string digits = std::to_string(n);
  for (int64_t at = static_cast<int64_t>(digits.size()) - 3; at > 0; at -= 3)
    digits.insert(static_cast<size_t>(at), 1, ',');
  return digits;
}

int verdict_exit_status(Verdict verdict) {
  return verdict == Verdict::kPass ? 0 : verdict == Verdict::kFail ? 1 : 2;
}

Verdict judge_text(const VerifyResult& result) {
  LAPIDARY_CHECK(result.text.has_value());
  if (result.identical) return Verdict::kPass;
  const TextComparison& text = *result.text;
  const double loss = text.nll_candidate - text.nll_base;
  if (loss > result.margins.nats && text.interval[0] > 0) return Verdict::kFail;
  if (text.interval[1] <= result.margins.nats && text.tokens >= kMinTextTokens)
    return Verdict::kPass;
  return Verdict::kInconclusive;
}

Verdict judge_endpoint(const VerifyResult& result) {
  LAPIDARY_CHECK(result.endpoint.has_value());
  const EndpointComparison& e = *result.endpoint;
  if (e.interval[0] > result.margins.nats) return Verdict::kFail;
  if (e.interval[1] <= result.margins.nats && e.positions >= kMinPositions) return Verdict::kPass;
  return Verdict::kInconclusive;
}

double task_margin(const VerifyResult& result, const std::string& name) {
  return name == kPooledName ? result.margins.pooled : result.margins.task;
}

Verdict judge_task(const VerifyResult& result, const std::string& name) {
  if (result.identical) return Verdict::kPass;
  const TaskComparison& task = result.tasks.at(name);
  const double margin = task_margin(result, name);
  if (-task.difference > margin && task.interval[1] < 0) return Verdict::kFail;
  if (task.interval[0] >= -margin) return Verdict::kPass;
  return Verdict::kInconclusive;
}

void judge(VerifyResult& result) {
  if (!result.text && result.tasks.empty() && !result.endpoint)
    fail(ErrorCode::kUsage,
         "nothing was measured, so there is nothing to judge: give a text or a tasks file");
  if (result.identical) check_identical(result);

  std::vector<std::pair<Verdict, std::string>> findings;
  if (result.text) {
    const Verdict verdict = judge_text(result);
    findings.emplace_back(verdict, text_sentence(result, verdict));
  }
  if (result.endpoint) {
    const Verdict verdict = judge_endpoint(result);
    findings.emplace_back(verdict, endpoint_sentence(result, verdict));
  }
  for (const auto& [name, task] : result.tasks) {
    const Verdict verdict = judge_task(result, name);
    findings.emplace_back(verdict, task_sentence(result, name, verdict));
  }
  std::stable_sort(findings.begin(), findings.end(), [](const auto& left, const auto& right) {
    return severity(left.first) < severity(right.first);
  });
  result.verdict = findings.front().first;
  result.reasons.clear();
  for (auto& [verdict, sentence] : findings) result.reasons.push_back(std::move(sentence));
}

}  // namespace lapidary
