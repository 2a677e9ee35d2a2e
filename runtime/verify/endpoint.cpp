// One pass of our model over the windows, stopping at each place to ask.
#include "runtime/verify/endpoint.h"

#include <algorithm>
#include <cmath>

#include "formats/error.h"
#include "runtime/verify/log_softmax.h"
#include "runtime/verify/statistics.h"
#include "runtime/verify/text_measure.h"

namespace lapidary {
namespace {

constexpr int64_t kResamples = 10'000;
constexpr uint64_t kBootstrapSeed = 20'240'917;  // any fixed number: results must repeat
// Of what a server did not tell: log-probabilities come rounded, so less is noise.
constexpr double kLeastRest = 1e-6;
constexpr double kNoticed = 0.01;  // probability of tokens whose difference is reported

struct Place {
  double kld = 0, largest_difference = 0;
  bool same_top = false;
};

Place compare_place(std::span<const float> logits, const NextTokens& theirs) {
  const double most = *std::max_element(logits.begin(), logits.end());
  const double log_sum = most + negative_log_likelihood(logits, greedy_token(logits));
  Place place;
  double rest = 1, their_rest = 1;
  for (const Candidate& token : theirs) {
    const double log_p = logits[static_cast<size_t>(token.id)] - log_sum, p = std::exp(log_p);
    place.kld += p * (log_p - token.logit);
    rest -= p;
    their_rest -= std::exp(double{token.logit});
    if (std::max(p, std::exp(double{token.logit})) >= kNoticed)
      place.largest_difference = std::max(place.largest_difference, std::fabs(log_p - token.logit));
  }
  rest = std::max(rest, kLeastRest), their_rest = std::max(their_rest, kLeastRest);
  place.kld = std::max(place.kld + rest * std::log(rest / their_rest), 0.0);
  place.same_top = std::ranges::min_element(theirs, better)->id == greedy_token(logits);
  return place;
}

}  // namespace

EndpointComparison compare_endpoint(Scorer& ours, const AskNextTokens& ask, std::string_view text,
                                    const EndpointOptions& options, const Events& events) {
  if (options.positions < 2)
    fail(ErrorCode::kUsage, "{} positions to ask at: expected at least 2", options.positions);
  const std::vector<int32_t> tokens = text_tokens(ours, text, {options.context, 0});
  const int64_t n = std::ssize(tokens), window = options.context - 1;
  const int64_t n_positions = std::min(options.positions, n);
  if (n_positions < 2)
    fail(ErrorCode::kBadData, "the text has one token only: expected at least 2");

  std::vector<double> klds, sums;
  std::vector<int64_t> counts;
  EndpointComparison result;
  int64_t same_top = 0, start = -1, fed = 0;  // of the window at hand; `fed` without BOS
  std::vector<int32_t> prompt;
  for (int64_t i = 0; i < n_positions; ++i) {
    // Evenly over the text; at token `at` the ones before it in its window are the prompt.
    const int64_t at = i * n / n_positions;
    if (at / window * window != start) {
      start = at / window * window, fed = -1;
      ours.begin(std::min(window, n - start));
      prompt.assign(1, window_start(ours));
      sums.push_back(0), counts.push_back(0);
    }
    prompt.insert(prompt.end(), tokens.begin() + start + std::max<int64_t>(fed, 0),
                  tokens.begin() + at);
    std::span<const int32_t> fresh =
        std::span<const int32_t>(prompt).subspan(static_cast<size_t>(fed + 1));
    fed = at - start;
    std::span<const float> logits;
    while (!fresh.empty()) {
      const auto chunk = fresh.first(std::min<size_t>(fresh.size(), size_t(ours.max_chunk())));
      logits = ours.append(chunk, 1);
      fresh = fresh.subspan(chunk.size());
    }
    events.progress({.what = "places",
                     .done = static_cast<uint64_t>(i),
                     .total = static_cast<uint64_t>(n_positions),
                     .detail = {}});
    const NextTokens theirs = ask(prompt);
    if (theirs.empty()) continue;
    const Place place = compare_place(logits, theirs);
    klds.push_back(place.kld);
    sums.back() += place.kld;
    ++counts.back();
    same_top += place.same_top;
    result.largest_difference = std::max(result.largest_difference, place.largest_difference);
  }
  if (klds.size() < 2)
    fail(ErrorCode::kBadData, "the server told of the next token at {} of {} places only",
         klds.size(), n_positions);
  for (size_t i = sums.size(); i-- > 0;)
    if (counts[i] == 0) sums.erase(sums.begin() + long(i)), counts.erase(counts.begin() + long(i));
  if (sums.size() < 20) {  // too few windows to draw from: places are
    sums = klds;
    counts.assign(klds.size(), 1);
  }
  const Interval interval = cluster_bootstrap(sums, counts, kResamples, kBootstrapSeed);
  const double n_told = static_cast<double>(klds.size());
  result.positions = std::ssize(klds);
  for (const double kld : klds) result.kld_mean += kld / n_told;
  result.interval[0] = interval.first;
  result.interval[1] = interval.second;
  std::sort(klds.begin(), klds.end());
  result.kld_p99 = quantile(klds, 0.99);
  result.top1_agreement = static_cast<double>(same_top) / n_told;
  return result;
}

}  // namespace lapidary
