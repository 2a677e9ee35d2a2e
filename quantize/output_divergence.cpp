// KL from kept probabilities p: sum p log p - sum p log q, with log q = logits - log sum exp. Both
// sums use the same float p, so that equal logits give zero up to double rounding.
#include "quantize/output_divergence.h"

#include <algorithm>
#include <cmath>

#include "kernels/thread_pool.h"

namespace lapidary {
namespace {

double log_sum_exp(std::span<const float> logits) {
  const float top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(static_cast<double>(x - top));
  const double result = top + std::log(sum);
  if (!std::isfinite(result))
    fail(ErrorCode::kBadData,
         "the model computed logits that are not numbers; its weights are damaged");
  return result;
}

double weighted_sum(std::span<const float> p, std::span<const float> logits) {
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) sum += static_cast<double>(p[i]) * logits[i];
  return sum;
}

}  // namespace

struct OutputDivergence::State {
  struct Window {
    std::vector<int32_t> tokens;
    std::unique_ptr<Sequence> sequence;
    std::vector<std::vector<float>> hidden;  // [n_layers + 1][n, d_model]: what enters layer l
    std::vector<float> p;                    // [n, vocab]
    std::vector<double> mass, entropy;       // [n]: sum p, -sum p log p
  };

  static EngineOptions engine_options(const TokenWindows& windows, int n_threads) {
    EngineOptions options;
    options.n_threads = n_threads;
    options.activations = ActivationType::k16Bit;
    options.max_batch_tokens = 1;
    for (const auto& tokens : windows)
      options.max_batch_tokens =
          std::max(options.max_batch_tokens, static_cast<int>(tokens.size()));
    options.max_logits = options.max_batch_tokens;
    return options;
  }

  State(std::shared_ptr<const Model> model, const TokenWindows& given, int n_threads,
        const Events& events_given)
      : vocab(static_cast<size_t>(model->config().vocab_size)),
        n_layers(model->config().n_layers()),
        d_model(model->config().d_model),
        engine(std::move(model), engine_options(given, n_threads)),
        pool(n_threads),
        events(events_given) {
    for (const auto& tokens : given) {
      events.poll();
      run_exact(tokens);
    }
  }

  void run_exact(const std::vector<int32_t>& tokens) {
    Window& w = windows.emplace_back();
    w.tokens = tokens;
    w.sequence = engine.new_sequence(static_cast<int64_t>(tokens.size()), KvCode::kF32);
    w.hidden.resize(static_cast<size_t>(n_layers) + 1);
    engine.set_tap([&](int layer, const float* hidden, int64_t n) {
      if (layer <= n_layers)
        w.hidden[static_cast<size_t>(layer)].assign(hidden, hidden + n * d_model);
    });
    const BatchItem item{w.sequence.get(), w.tokens, 0};
    const std::span<const float> logits = engine.step({&item, 1});
    engine.set_tap({});
    w.p.resize(logits.size());
    w.mass.resize(tokens.size());
    w.entropy.resize(tokens.size());
    each_token(w, [&](size_t t) {
      const auto row = logits.subspan(t * vocab, vocab);
      const auto p = std::span(w.p).subspan(t * vocab, vocab);
      const double sum = log_sum_exp(row);
      for (size_t i = 0; i < vocab; ++i) p[i] = static_cast<float>(std::exp(row[i] - sum));
      for (const float x : p) w.mass[t] += x;
      w.entropy[t] = w.mass[t] * sum - weighted_sum(p, row);
    });
    n_tokens += static_cast<int64_t>(tokens.size());
  }

  // f may throw: the first error in token order leaves.
  template <class F>
  void each_token(const Window& w, F&& f) {
    std::vector<std::exception_ptr> errors(w.tokens.size());
    pool.run(static_cast<int64_t>(w.tokens.size()), [&](int64_t t) {
      try {
        f(static_cast<size_t>(t));
      } catch (...) {
        errors[static_cast<size_t>(t)] = std::current_exception();
      }
    });
    for (const auto& error : errors)
      if (error) std::rethrow_exception(error);
  }

  double kld(int first_layer) {
    double total = 0;
    for (Window& w : windows) {
      events.poll();
      w.sequence->truncate(0);
      const BatchItem item{w.sequence.get(), w.tokens, 0};
      const std::span<const float> logits =
          first_layer < 0
              ? engine.step({&item, 1})
              : engine.step_from({first_layer, w.hidden[static_cast<size_t>(first_layer)].data()},
                                 {&item, 1});
      std::vector<double> kld(w.tokens.size());
      each_token(w, [&](size_t t) {
        const auto row = logits.subspan(t * vocab, vocab);
        const auto p = std::span<const float>(w.p).subspan(t * vocab, vocab);
        kld[t] = std::max(0.0, w.mass[t] * log_sum_exp(row) - weighted_sum(p, row) - w.entropy[t]);
      });
      for (const double x : kld) total += x;
    }
    return total / static_cast<double>(n_tokens);
  }

  size_t vocab;
  int n_layers;
  int64_t d_model;
  Engine engine;
  ThreadPool pool;
  const Events& events;
  std::vector<Window> windows;
  int64_t n_tokens = 0;
};

OutputDivergence::OutputDivergence(std::shared_ptr<const Model> model, const TokenWindows& windows,
                                   int n_threads, const Events& events)
    : state_(std::make_unique<State>(std::move(model), windows, n_threads, events)) {}
OutputDivergence::~OutputDivergence() = default;

int64_t OutputDivergence::n_tokens() const { return state_->n_tokens; }
double OutputDivergence::kld(int first_layer) { return state_->kld(first_layer); }

TokenWindows windows_of_tokens(const ModelConfig& config, std::span<const int32_t> all,
                               int64_t n_tokens, bool odd) {
  // BOS, or the end-of-text token of models that have no BOS, or nothing.
  std::vector<int32_t> start;
  if (config.bos_id >= 0)
    start = {config.bos_id};
  else if (!config.eos_ids.empty())
    start = {config.eos_ids.front()};

  // A short text is cut into shorter windows rather than leaving nothing for a second measurement.
  const int64_t n_all = static_cast<int64_t>(all.size());
  const int64_t length =
      std::min<int64_t>(kWindowTokens - static_cast<int64_t>(start.size()), n_all / 2);
  if (length < 1)
    fail(ErrorCode::kBadData, "the calibration text has {} tokens: expected at least 2", n_all);
  const int64_t n_windows = n_all / length / 2;
  const int64_t wanted = std::clamp<int64_t>((n_tokens + length / 2) / length, 1, n_windows);
  TokenWindows windows;
  for (int64_t i = 0; i < wanted; ++i) {
    const int64_t which = 2 * (i * n_windows / wanted) + (odd ? 1 : 0);
    const auto part = all.subspan(static_cast<size_t>(which * length), static_cast<size_t>(length));
    for (const int32_t id : part)
      if (id < 0 || id >= config.vocab_size)
        fail(ErrorCode::kBadData,
             "the tokenizer gave id {}, but the model's vocabulary has {} entries", id,
             config.vocab_size);
    std::vector<int32_t>& tokens = windows.emplace_back(start);
    tokens.insert(tokens.end(), part.begin(), part.end());
  }
  return windows;
}

}  // namespace lapidary
