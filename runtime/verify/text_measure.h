// The text measure: negative log-likelihood over windows of a text, and its paired comparison.
//
// Tokenize without special tokens (keep the first `limit_tokens`), cut into windows of context - 1,
// put BOS before each, predict every token after BOS; the last window may be short. Paired: the
// same windows through both models in lockstep, chunk by chunk, so that full-vocabulary KLD needs
// no storage. For the bootstrap a cluster is one window (a stand-in for a document); a text of
// fewer than 20 windows is cut into blocks of at most 256 tokens instead, at least 20 where there
// are 20 tokens.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "formats/events.h"
#include "runtime/verify/scorer.h"

namespace lapidary {

struct TextOptions {
  int64_t context = 2048;    // BOS included
  int64_t limit_tokens = 0;  // 0: all
};

struct TextResult {
  int64_t tokens = 0;  // predicted
  double nll = 0;      // mean, nats per token
  double perplexity = 0, seconds = 0, tokens_per_second = 0;
};

struct TextComparison {
  int64_t tokens = 0;
  double nll_base = 0, nll_candidate = 0;
  double interval[2] = {0, 0};  // 95 %, of nll_candidate - nll_base, cluster bootstrap
  double kld_mean = 0, kld_median = 0, kld_p99 = 0;  // base || candidate, nats
  double top1_agreement = 0;
  std::vector<float> kld;             // per token, for pictures
  std::vector<float> nll_difference;  // per token, candidate - base
};

// What stands before each window: BOS, or the end-of-text token of models that have no BOS. Throws
// kBadData when there is neither.
int32_t window_start(const Scorer& model);
// The text's tokens as the options cut them. Throws kUsage for options out of range, kBadData for
// an empty text or a tokenizer that does not fit the vocabulary.
std::vector<int32_t> text_tokens(const Scorer& model, std::string_view text,
                                 const TextOptions& options);

TextResult measure_text(Scorer& model, std::string_view text, const TextOptions& options,
                        const Events& events);
// Throws kBadData when the two tokenizers or vocabularies differ, or the text has fewer than 2
// tokens.
TextComparison compare_text(Scorer& base, Scorer& candidate, std::string_view text,
                            const TextOptions& options, const Events& events);

}  // namespace lapidary
