// Is what a server answers with this very model? Its log-probabilities of the next token beside
// ours, at places spread over a text.
//
// Any server with OpenAI's /v1/completions will do, if it takes token ids and tells the
// log-probabilities of its best tokens. They are few, so the measure is the KLD over a coarser set:
// each token that was told, and all others together. That is never more than the whole KLD, and
// close to it, because the best tokens hold nearly all of the probability.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "formats/events.h"
#include "runtime/verify/scorer.h"

namespace lapidary {

// What a server told of a prompt's next token: candidates with natural log-probabilities in
// `logit`, each token once. Empty where it chose to end, of which most servers tell nothing.
using NextTokens = std::vector<Candidate>;
using AskNextTokens = std::function<NextTokens(std::span<const int32_t> prompt)>;

struct EndpointOptions {
  int64_t context = 512;  // of a window, BOS included
  int64_t positions = 256;
};

struct EndpointComparison {
  int64_t positions = 0;
  double kld_mean = 0, kld_p99 = 0;  // ours || theirs, nats, over the coarser set
  double interval[2] = {0, 0};       // 95 %, of the mean; bootstrap over windows
  double top1_agreement = 0;
  double largest_difference = 0;  // of log-probabilities, among tokens of 1 % or more
};

// Asks at `positions` places of the text's windows, in order; those it is told nothing of do not
// count. Throws kBadData for a text of fewer than 2 tokens or a server that tells of fewer than 2
// places, and what `ask` throws.
EndpointComparison compare_endpoint(Scorer& ours, const AskNextTokens& ask, std::string_view text,
                                    const EndpointOptions& options, const Events& events);

// The body of a request for one token with the log-probabilities of the n_best, 1 to 20.
std::string completion_request(const std::string& model, std::span<const int32_t> prompt,
                               int n_best);
// Finds the tokens of its answer: by id where the server tells ids (llama.cpp, vLLM), else by the
// bytes they stand for. Throws kBadData for an answer that has no log-probabilities or hardly any
// token that this vocabulary knows.
class CompletionReader {
 public:
  explicit CompletionReader(const Tokenizer& tokenizer, int64_t vocab_size);
  NextTokens read(std::string_view json) const;

 private:
  int32_t id_of(std::string_view text) const;  // -1: unknown
  int64_t vocab_size_;
  std::unordered_map<std::string, int32_t> ids_;  // by the bytes they stand for
};

}  // namespace lapidary
