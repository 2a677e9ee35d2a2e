// What the commands of llama_driver share: contexts, batches, token files and log-probabilities.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "llama.h"

namespace peer {

constexpr llama_token kBos = 2;

[[noreturn]] inline void die(const std::string& what) {
  std::fprintf(stderr, "llama_driver: %s\n", what.c_str());
  std::exit(1);
}

inline ggml_type cache_type(const std::string& name) {
  for (int t = 0; t < GGML_TYPE_COUNT; ++t) {
    const char* known = ggml_type_name(static_cast<ggml_type>(t));
    if (known && name == known) return static_cast<ggml_type>(t);
  }
  die("unknown cache type " + name);
}

struct ContextOptions {
  uint32_t tokens;
  int threads;
  ggml_type type_k = GGML_TYPE_F16, type_v = GGML_TYPE_F16;
  bool flash = true;  // quantized V needs it; without it scores stay float32
  ggml_backend_sched_eval_callback eval = nullptr;
  void* eval_data = nullptr;
};

inline llama_context* open_context(llama_model* model, const ContextOptions& options) {
  llama_context_params params = llama_context_default_params();
  params.n_ctx = options.tokens;
  params.n_batch = options.tokens;
  params.n_threads = params.n_threads_batch = options.threads;
  params.type_k = options.type_k;
  params.type_v = options.type_v;
  params.flash_attn_type =
      options.flash ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
  params.cb_eval = options.eval;
  params.cb_eval_user_data = options.eval_data;
  llama_context* context = llama_init_from_model(model, params);
  if (!context) die("no context");
  return context;
}

// Decodes tokens at positions first, first + 1, ...; logits of all of them, or of the last alone.
inline void decode(llama_context* context, const std::vector<llama_token>& tokens, llama_pos first,
                   bool all_logits) {
  llama_batch batch = llama_batch_init(static_cast<int32_t>(tokens.size()), 0, 1);
  batch.n_tokens = static_cast<int32_t>(tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    batch.token[i] = tokens[i];
    batch.pos[i] = first + static_cast<llama_pos>(i);
    batch.n_seq_id[i] = 1;
    batch.seq_id[i][0] = 0;
    batch.logits[i] = all_logits || i + 1 == tokens.size();
  }
  if (llama_decode(context, batch) != 0) die("decode failed");
  llama_synchronize(context);
  llama_batch_free(batch);
}

inline std::vector<std::vector<llama_token>> read_ids(const char* path) {
  std::ifstream file(path);
  if (!file) die(std::string("cannot read ") + path);
  std::vector<std::vector<llama_token>> lines;
  for (std::string line; std::getline(file, line);) {
    std::istringstream in(line);
    lines.emplace_back(std::istream_iterator<llama_token>(in),
                       std::istream_iterator<llama_token>());
  }
  return lines;
}

inline std::vector<double> log_softmax(const float* logits, int n) {
  const float top = *std::max_element(logits, logits + n);
  double sum = 0;
  for (int i = 0; i < n; ++i) sum += std::exp(static_cast<double>(logits[i] - top));
  std::vector<double> out(n);
  for (int i = 0; i < n; ++i) out[i] = logits[i] - top - std::log(sum);
  return out;
}

}  // namespace peer
