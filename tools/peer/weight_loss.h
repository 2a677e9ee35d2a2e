// The loss of quantized files in llama.cpp: mean and median KL divergence from the exact model at
// the same tokens, best tokens that agree, and the size over all tensors.
#pragma once

#include <numeric>

#include "tools/peer/llama_session.h"

namespace peer {

struct Candidate {
  llama_model* model;
  llama_context* context;
  std::vector<double> divergence = {};
  double nll = 0;
  size_t same = 0;  // positions with the same best token
};

inline void compare(Candidate& candidate, const std::vector<double>& p, llama_token next,
                    int position) {
  const int n = static_cast<int>(p.size());
  const std::vector<double> q = log_softmax(llama_get_logits_ith(candidate.context, position), n);
  double sum = 0;
  for (int v = 0; v < n; ++v) sum += std::exp(p[v]) * (p[v] - q[v]);
  candidate.divergence.push_back(sum);
  candidate.nll -= q[next];
  candidate.same += std::max_element(p.begin(), p.end()) - p.begin() ==
                    std::max_element(q.begin(), q.end()) - q.begin();
}

inline int weights(llama_model* model, int threads, int argc, char** argv) {
  const int vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
  const std::vector<llama_token> ids = read_ids(argv[0]).at(0);
  const uint32_t window = std::strtoul(argv[1], nullptr, 10);
  const ContextOptions options{.tokens = window, .threads = threads, .flash = false};
  llama_context* base = open_context(model, options);
  std::vector<Candidate> candidates;
  for (int i = 2; i < argc; ++i) {
    llama_model* loaded = llama_model_load_from_file(argv[i], llama_model_default_params());
    if (!loaded) die(std::string("llama.cpp does not load ") + argv[i]);
    candidates.push_back({.model = loaded, .context = open_context(loaded, options)});
  }
  double nll = 0;
  for (size_t from = 0; from < ids.size(); from += window - 1) {
    const size_t count = std::min<size_t>(window - 1, ids.size() - from);
    std::vector<llama_token> tokens{kBos};
    tokens.insert(tokens.end(), ids.begin() + from, ids.begin() + from + count);
    llama_memory_clear(llama_get_memory(base), false);
    decode(base, tokens, 0, true);
    for (Candidate& candidate : candidates) {
      llama_memory_clear(llama_get_memory(candidate.context), false);
      decode(candidate.context, tokens, 0, true);
    }
    for (size_t t = 0; t < count; ++t) {
      const std::vector<double> p = log_softmax(llama_get_logits_ith(base, t), vocabulary);
      nll -= p[tokens[t + 1]];
      for (Candidate& candidate : candidates)
        compare(candidate, p, tokens[t + 1], static_cast<int>(t));
    }
  }
  const auto scored = static_cast<double>(ids.size());
  std::printf("{\"tokens\": %zu, \"nll\": %.6f, \"candidates\": [", ids.size(), nll / scored);
  for (size_t c = 0; c < candidates.size(); ++c) {
    std::vector<double>& d = candidates[c].divergence;
    const double mean = std::accumulate(d.begin(), d.end(), 0.0) / scored;
    std::nth_element(d.begin(), d.begin() + d.size() / 2, d.end());
    std::printf(
        "%s{\"bytes\": %llu, \"parameters\": %llu, \"nll\": %.6f, \"kld_mean\": %.8f, "
        "\"kld_median\": %.8f, \"top1_agreement\": %.6f}",
        c ? ", " : "", static_cast<unsigned long long>(llama_model_size(candidates[c].model)),
        static_cast<unsigned long long>(llama_model_n_params(candidates[c].model)),
        candidates[c].nll / scored, mean, d[d.size() / 2],
        static_cast<double>(candidates[c].same) / scored);
  }
  std::printf("]}\n");
  return 0;
}

}  // namespace peer
