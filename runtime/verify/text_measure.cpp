// Windows of a text through one model or two in lockstep, chunk by chunk.
#include "runtime/verify/text_measure.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>

#include "formats/error.h"
#include "runtime/verify/log_softmax.h"
#include "runtime/verify/statistics.h"

namespace lapidary {
namespace {

// 95 % bounds are stable to about 1 % of the width at this number.
constexpr int64_t kResamples = 10'000;
constexpr uint64_t kBootstrapSeed = 20'240'917;  // any fixed number: results must repeat
// Below this many windows a window is cut into blocks: see cluster_length().
constexpr int64_t kMinClusters = 20;
constexpr int64_t kMaxBlock = 256;

// Cuts `tokens` into windows and windows into chunks, and calls
//   window(length) and chunk(inputs, targets)
// where inputs[i] is the token before targets[i]. All inputs together are BOS and the window
// without its last token, which predicts nothing.
void for_each_chunk(
    std::span<const int32_t> tokens, int32_t bos, int64_t context, int64_t max_chunk,
    const std::function<void(int64_t)>& window,
    const std::function<void(std::span<const int32_t>, std::span<const int32_t>)>& chunk) {
  const int64_t n = static_cast<int64_t>(tokens.size());
  std::vector<int32_t> inputs;
  for (int64_t start = 0; start < n; start += context - 1) {
    const std::span<const int32_t> targets =
        tokens.subspan(start, std::min(context - 1, n - start));
    inputs.assign(1, bos);
    inputs.insert(inputs.end(), targets.begin(), targets.end() - 1);
    window(static_cast<int64_t>(targets.size()));
    for (size_t at = 0; at < targets.size(); at += max_chunk) {
      const size_t count = std::min<size_t>(max_chunk, targets.size() - at);
      chunk(std::span(inputs).subspan(at, count), targets.subspan(at, count));
    }
  }
}

// Tokens of one cluster, given the length of the text and its windows. Tokens of one passage are
// hard or easy together, so the bootstrap draws whole clusters: windows, where there are enough of
// them. A short text has too few windows to resample, so they are cut into blocks of at most 256
// tokens and short enough that there are at least 20. The dependence that blocks leave uncounted is
// small: between a model and its quantized or tuned copy, differences of neighbouring tokens are
// nearly uncorrelated.
int64_t cluster_length(int64_t n_tokens, int64_t window) {
  if ((n_tokens + window - 1) / window >= kMinClusters) return window;
  return std::clamp<int64_t>(n_tokens / kMinClusters, 1, std::min(kMaxBlock, window));
}

Interval difference_interval(const std::vector<double>& differences, int64_t window) {
  const int64_t n = static_cast<int64_t>(differences.size()), length = cluster_length(n, window);
  std::vector<double> sums;
  std::vector<int64_t> counts;
  for (int64_t start = 0; start < n; start += window)  // no cluster spans two windows
    for (int64_t at = start; at < std::min(start + window, n); at += length) {
      const int64_t end = std::min({at + length, start + window, n});
      double sum = 0;
      for (int64_t i = at; i < end; ++i) sum += differences[static_cast<size_t>(i)];
      sums.push_back(sum);
      counts.push_back(end - at);
    }
  return cluster_bootstrap(sums, counts, kResamples, kBootstrapSeed);
}

void require_same_vocabulary(const Scorer& base, const Scorer& candidate) {
  const Tokenizer &left = base.tokenizer(), &right = candidate.tokenizer();
  if (base.vocab_size() != candidate.vocab_size() || left.vocab_size() != right.vocab_size())
    fail(ErrorCode::kBadData,
         "the two models cannot be compared token by token: vocabularies of {} and {} entries; "
         "compare "
         "them on --tasks instead",
         base.vocab_size(), candidate.vocab_size());
  for (int32_t id = 0; id < left.vocab_size(); ++id)
    if (left.piece(id) != right.piece(id))
      fail(ErrorCode::kBadData,
           "the two models cannot be compared token by token: token {} is '{}' in the base and "
           "'{}' in "
           "the candidate; compare them on --tasks instead",
           id, left.piece(id), right.piece(id));
}

void note_long_context(const Scorer& model, const TextOptions& options, const Events& events) {
  const int64_t limit = model.metadata().config.max_context;
  if (limit > 0 && options.context > limit)
    events.note(fmt::format("windows of {} tokens are longer than the {} the model was made for",
                            options.context, limit));
}

}  // namespace

int32_t window_start(const Scorer& model) {
  const ModelConfig& config = model.metadata().config;
  if (config.bos_id >= 0) return config.bos_id;
  if (const auto bos = model.tokenizer().bos_id()) return *bos;
  if (!config.eos_ids.empty()) return config.eos_ids.front();
  fail(ErrorCode::kBadData,
       "the model has neither a BOS nor an end-of-text token to put before a window");
}

std::vector<int32_t> text_tokens(const Scorer& model, std::string_view text,
                                 const TextOptions& options) {
  if (options.context < 2)
    fail(ErrorCode::kUsage, "--context {}: expected at least 2, BOS and one token",
         options.context);
  if (options.limit_tokens < 0)
    fail(ErrorCode::kUsage, "--limit-tokens {}: expected 0 (all) or more", options.limit_tokens);
  std::vector<int32_t> tokens = model.tokenizer().encode(text);
  if (options.limit_tokens > 0 && static_cast<int64_t>(tokens.size()) > options.limit_tokens)
    tokens.resize(static_cast<size_t>(options.limit_tokens));
  if (tokens.empty()) fail(ErrorCode::kBadData, "the text is empty: expected at least one token");
  for (const int32_t id : tokens)
    if (id < 0 || id >= model.vocab_size())
      fail(ErrorCode::kBadData,
           "the tokenizer gave id {}, but the model's vocabulary has {} entries", id,
           model.vocab_size());
  return tokens;
}

TextResult measure_text(Scorer& model, std::string_view text, const TextOptions& options,
                        const Events& events) {
  const std::vector<int32_t> tokens = text_tokens(model, text, options);
  note_long_context(model, options, events);
  const auto started = std::chrono::steady_clock::now();
  const size_t vocab = static_cast<size_t>(model.vocab_size());
  TextResult result;
  double total = 0;
  for_each_chunk(
      tokens, window_start(model), options.context, model.max_chunk(),
      [&](int64_t length) { model.begin(length); },
      [&](std::span<const int32_t> inputs, std::span<const int32_t> targets) {
        const auto logits = model.append(inputs, static_cast<int64_t>(inputs.size()));
        for (size_t i = 0; i < targets.size(); ++i)
          total += negative_log_likelihood(logits.subspan(i * vocab, vocab), targets[i]);
        result.tokens += static_cast<int64_t>(targets.size());
        events.progress({.what = "tokens",
                         .done = static_cast<uint64_t>(result.tokens),
                         .total = tokens.size(),
                         .detail = {}});
      });
  result.nll = total / static_cast<double>(result.tokens);
  result.perplexity = std::exp(result.nll);
  result.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  result.tokens_per_second = static_cast<double>(result.tokens) / std::max(result.seconds, 1e-9);
  return result;
}

TextComparison compare_text(Scorer& base, Scorer& candidate, std::string_view text,
                            const TextOptions& options, const Events& events) {
  require_same_vocabulary(base, candidate);
  const std::vector<int32_t> tokens = text_tokens(base, text, options);
  if (tokens != text_tokens(candidate, text, options) ||
      window_start(base) != window_start(candidate))
    fail(ErrorCode::kBadData,
         "the two models' tokenizers cut the text differently, so they cannot be compared token by "
         "token; compare them on --tasks instead");
  if (tokens.size() < 2)
    fail(ErrorCode::kBadData, "the text has one token only: an uncertainty needs at least 2");
  note_long_context(base, options, events);

  const size_t vocab = static_cast<size_t>(base.vocab_size());
  TextComparison result;
  PairedSoftmax softmax;
  std::vector<double> differences;
  double total_base = 0, total_candidate = 0, total_kld = 0;
  int64_t same_top = 0;
  for_each_chunk(
      tokens, window_start(base), options.context,
      std::min(base.max_chunk(), candidate.max_chunk()),
      [&](int64_t length) {
        base.begin(length);
        candidate.begin(length);
      },
      [&](std::span<const int32_t> inputs, std::span<const int32_t> targets) {
        const auto n = static_cast<int64_t>(inputs.size());
        const auto base_logits = base.append(inputs, n),
                   candidate_logits = candidate.append(inputs, n);
        for (size_t i = 0; i < targets.size(); ++i) {
          const PairedToken token =
              softmax.compare(base_logits.subspan(i * vocab, vocab),
                              candidate_logits.subspan(i * vocab, vocab), targets[i]);
          total_base += token.nll_base;
          total_candidate += token.nll_candidate;
          total_kld += token.kld;
          same_top += token.same_top;
          differences.push_back(token.nll_candidate - token.nll_base);
          result.nll_difference.push_back(static_cast<float>(differences.back()));
          result.kld.push_back(static_cast<float>(token.kld));
        }
        events.progress(
            {.what = "tokens", .done = differences.size(), .total = tokens.size(), .detail = {}});
      });

  const double n = static_cast<double>(differences.size());
  result.tokens = static_cast<int64_t>(differences.size());
  result.nll_base = total_base / n;
  result.nll_candidate = total_candidate / n;
  const Interval interval = difference_interval(differences, options.context - 1);
  result.interval[0] = interval.first;
  result.interval[1] = interval.second;
  result.kld_mean = total_kld / n;
  std::vector<double> sorted(result.kld.begin(), result.kld.end());
  std::sort(sorted.begin(), sorted.end());
  result.kld_median = quantile(sorted, 0.5);
  result.kld_p99 = quantile(sorted, 0.99);
  result.top1_agreement = static_cast<double>(same_top) / n;
  return result;
}

}  // namespace lapidary
