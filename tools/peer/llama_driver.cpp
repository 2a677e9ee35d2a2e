// Drives llama.cpp where its own tools cannot answer: generation at a depth that would take minutes
// of prompt to reach, the loss of its KV-cache types at the very tokens that `lapidary verify`
// scores, and log-probabilities of given tokens. Built by tools/bench_peer.sh against llama.cpp,
// not by CMake.
//
//   llama_driver depth MODEL THREADS DEPTH TOKENS REPETITIONS
//   llama_driver kv MODEL THREADS IDS WINDOW TYPE_K/TYPE_V...
//   llama_driver score MODEL THREADS IDS NEW_TOKENS [--exact] [LORA]
//   llama_driver tokenize MODEL THREADS TEXTS
//   llama_driver weights MODEL THREADS IDS WINDOW CANDIDATE...
//
// --exact: with the roundings of llama.cpp's products and GELU taken out (exact_arithmetic.h).
// IDS is a text file: per line one sequence of token ids (kv, weights: one line, cut into windows
// of WINDOW - 1, BOS 2 before each). Every command prints one JSON object on stdout.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

#include "llama.h"
#include "tools/peer/exact_arithmetic.h"
#include "tools/peer/llama_session.h"
#include "tools/peer/stretch_cache.h"
#include "tools/peer/weight_loss.h"

namespace {

using namespace peer;

int depth(llama_model* model, int threads, char** argv) {
  const uint32_t depth = std::strtoul(argv[0], nullptr, 10);
  const int tokens = std::atoi(argv[1]), repetitions = std::atoi(argv[2]);
  llama_context* context = open_context(model, {.tokens = depth + 1280, .threads = threads});
  std::vector<llama_token> prompt(1024);  // fills the widest sliding window
  for (size_t i = 0; i < prompt.size(); ++i)
    prompt[i] = static_cast<llama_token>(3 + 37 * i % 8000);
  decode(context, prompt, 0, false);
  std::vector<uint8_t> state(llama_state_seq_get_size(context, 0));
  if (llama_state_seq_get_data(context, state.data(), state.size(), 0) != state.size())
    die("a cache could not be saved");
  const std::vector<uint8_t> deep = peer::Stretcher(state, depth).run();
  std::string rates;
  for (int r = 0; r < repetitions; ++r) {
    llama_memory_clear(llama_get_memory(context), false);
    if (llama_state_seq_set_data(context, deep.data(), deep.size(), 0) != deep.size())
      die("a stretched cache was not accepted");
    auto at = static_cast<llama_pos>(depth);
    decode(context, {prompt[0]}, at++, false);  // warm
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < tokens; ++i) decode(context, {prompt[i % 1024]}, at++, false);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    rates += (r ? "," : "") + std::to_string(tokens / seconds.count());
  }
  std::printf("{\"depth\": %u, \"tokens_per_second\": [%s]}\n", depth, rates.c_str());
  return 0;
}

int kv(llama_model* model, int threads, int argc, char** argv) {
  const int vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
  const std::vector<llama_token> ids = read_ids(argv[0]).at(0);
  const uint32_t window = std::strtoul(argv[1], nullptr, 10);
  llama_context* base = open_context(model, {.tokens = window, .threads = threads});
  std::vector<llama_context*> candidates;
  std::vector<std::vector<double>> divergence;
  double nll = 0;
  for (int i = 2; i < argc; ++i) {
    const std::string pair = argv[i];
    const size_t slash = pair.find('/');
    if (slash == std::string::npos) die("cache types are written K/V");
    candidates.push_back(open_context(model, {.tokens = window,
                                              .threads = threads,
                                              .type_k = cache_type(pair.substr(0, slash)),
                                              .type_v = cache_type(pair.substr(slash + 1))}));
  }
  divergence.resize(candidates.size());
  size_t scored = 0;
  for (size_t from = 0; from < ids.size(); from += window - 1) {
    const size_t count = std::min<size_t>(window - 1, ids.size() - from);
    std::vector<llama_token> tokens{kBos};
    tokens.insert(tokens.end(), ids.begin() + from, ids.begin() + from + count);
    for (llama_context* context : candidates) {
      llama_memory_clear(llama_get_memory(context), false);
      decode(context, tokens, 0, true);
    }
    llama_memory_clear(llama_get_memory(base), false);
    decode(base, tokens, 0, true);
    for (size_t t = 0; t < count; ++t, ++scored) {
      const std::vector<double> p = log_softmax(llama_get_logits_ith(base, t), vocabulary);
      nll -= p[tokens[t + 1]];
      for (size_t c = 0; c < candidates.size(); ++c) {
        const std::vector<double> q =
            log_softmax(llama_get_logits_ith(candidates[c], t), vocabulary);
        double sum = 0;
        for (int v = 0; v < vocabulary; ++v) sum += std::exp(p[v]) * (p[v] - q[v]);
        divergence[c].push_back(sum);
      }
    }
  }
  std::printf("{\"tokens\": %zu, \"nll\": %.6f, \"kv\": {", scored,
              nll / static_cast<double>(scored));
  for (size_t c = 0; c < candidates.size(); ++c) {
    std::vector<double>& d = divergence[c];
    const double average = std::accumulate(d.begin(), d.end(), 0.0) / static_cast<double>(d.size());
    std::nth_element(d.begin(), d.begin() + d.size() / 2, d.end());
    std::printf("%s\"%s\": {\"kld_mean\": %.8f, \"kld_median\": %.8f}", c ? ", " : "", argv[2 + c],
                average, d[d.size() / 2]);
  }
  std::printf("}}\n");
  return 0;
}

int score(llama_model* model, int threads, int argc, char** argv) {
  const int vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
  const std::vector<std::vector<llama_token>> lines = read_ids(argv[0]);
  const int new_tokens = std::atoi(argv[1]);
  size_t longest = 0;
  for (const auto& line : lines) longest = std::max(longest, line.size());
  const bool unrounded = argc > 2 && argv[2] == std::string("--exact");
  const int at_lora = unrounded ? 3 : 2;
  ExactArithmetic exact;
  llama_context* context =
      open_context(model, {.tokens = static_cast<uint32_t>(longest) + new_tokens,
                           .threads = threads,
                           .type_k = GGML_TYPE_F32,
                           .type_v = GGML_TYPE_F32,
                           .flash = false,
                           .eval = unrounded ? ExactArithmetic::eval : nullptr,
                           .eval_data = &exact});
  if (argc > at_lora) {
    llama_adapter_lora* adapter = llama_adapter_lora_init(model, argv[at_lora]);
    if (!adapter) die(std::string("llama.cpp does not load the adapter ") + argv[at_lora]);
    float scale = 1;
    if (llama_set_adapters_lora(context, &adapter, 1, &scale) != 0) die("adapter not accepted");
  }
  std::printf("{\"sequences\": [");
  for (size_t l = 0; l < lines.size(); ++l) {
    llama_memory_clear(llama_get_memory(context), false);
    exact.forget_margins();
    decode(context, lines[l], 0, true);
    std::printf("%s{\"router_margins\": [", l ? ", " : "");
    for (size_t t = 0; t < exact.margins().size(); ++t)
      std::printf("%s%.3g", t ? "," : "", exact.margins()[t]);
    std::printf("], \"logprobs\": [");
    for (size_t t = 0; t + 1 < lines[l].size(); ++t)
      std::printf("%s%.6f", t ? "," : "",
                  log_softmax(llama_get_logits_ith(context, t), vocabulary)[lines[l][t + 1]]);
    std::printf("], \"greedy\": [");
    auto at = static_cast<llama_pos>(lines[l].size());
    for (int i = 0; i < new_tokens; ++i) {
      const float* logits = llama_get_logits_ith(context, -1);
      const auto best =
          static_cast<llama_token>(std::max_element(logits, logits + vocabulary) - logits);
      std::printf("%s%d", i ? "," : "", best);
      if (i + 1 < new_tokens) decode(context, {best}, at++, false);
    }
    std::printf("]}");
  }
  std::printf("]}\n");
  return 0;
}

int tokenize(llama_model* model, char** argv) {
  std::ifstream file(argv[0]);
  std::printf("{\"ids\": [");
  bool first_line = true;
  for (std::string line; std::getline(file, line); first_line = false) {
    std::string text;
    for (size_t i = 0; i + 1 < line.size(); i += 2)
      text.push_back(static_cast<char>(std::stoi(line.substr(i, 2), nullptr, 16)));
    std::vector<llama_token> ids(text.size() + 8);
    ids.resize(llama_tokenize(llama_model_get_vocab(model), text.data(),
                              static_cast<int32_t>(text.size()), ids.data(),
                              static_cast<int32_t>(ids.size()), false, true));
    std::printf("%s[", first_line ? "" : ", ");
    for (size_t i = 0; i < ids.size(); ++i) std::printf("%s%d", i ? "," : "", ids[i]);
    std::printf("]");
  }
  std::printf("]}\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string command = argc > 1 ? argv[1] : "";
  if (!((command == "depth" && argc == 7) || (command == "kv" && argc >= 7) ||
        (command == "weights" && argc >= 7) || (command == "score" && argc >= 6 && argc <= 8) ||
        (command == "tokenize" && argc == 5)))
    die("see the head of llama_driver.cpp for its arguments");
  llama_log_set(
      [](ggml_log_level level, const char* text, void*) {
        if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
      },
      nullptr);
  llama_backend_init();
  llama_model_params params = llama_model_default_params();
  params.vocab_only = command == "tokenize";
  params.use_extra_bufts = !(argc > 6 && argv[6] == std::string("--exact"));
  llama_model* model = llama_model_load_from_file(argv[2], params);
  if (!model) die(std::string("llama.cpp does not load ") + argv[2]);
  const int threads = std::atoi(argv[3]);
  if (command == "depth") return depth(model, threads, argv + 4);
  if (command == "kv") return kv(model, threads, argc - 4, argv + 4);
  if (command == "weights") return peer::weights(model, threads, argc - 4, argv + 4);
  if (command == "tokenize") return tokenize(model, argv + 4);
  return score(model, threads, argc - 4, argv + 4);
}
