// One forward and backward pass per window, with a tap on every product.
#include "finetune/fisher.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "finetune/gradient_squares.h"
#include "finetune/head_loss.h"
#include "finetune/model_twin.h"
#include "finetune/torch_call.h"
#include "formats/lap_copy.h"
#include "formats/provenance.h"
#include "runtime/verify/random.h"

namespace lapidary {
namespace {

// Turns one token's logits after the soft-cap into d log p(label) / d(raw logits), label drawn by
// `u` in [0, 1).
void draw_and_differentiate(double softcap, at::Tensor z, double u) {
  const CapSlope slope(softcap, z, 1);
  z.sub_(z.logsumexp(0)).exp_().neg_();
  auto* p = z.data_ptr<float>();  // minus the probabilities
  int64_t label = 0;
  for (double sum = -p[0]; sum <= u && label + 1 < z.numel();) sum -= p[++label];
  p[label] += 1;
  slope.multiply(z);
}

class FisherMeter {
 public:
  FisherMeter(std::shared_ptr<const Model> model, int n_threads)
      : model_(std::move(model)), twin_(model_, n_threads, native_precision()) {
    for (const AdaptableMatrix& m : twin_.adaptable()) {
      if (!m.experts) {
        place(m.matrix, m.module + ".weight", 0, m.matrix->rows);
        continue;
      }
      int64_t first = 0;
      const int64_t all = m.matrix->rows * static_cast<int64_t>(m.experts->size());
      for (const MatrixView& expert : *m.experts) {
        place(&expert, m.module, first, all);
        first += expert.rows;
      }
    }
    if (model_->ple_table) {
      place(&model_->ple_model_projection, "model.per_layer_model_projection.weight", 0,
            model_->ple_model_projection.rows);
      ple_ = &squares_[std::string(kPleTensor)];
      *ple_ = zeros(model_->config().vocab_size,
                    int64_t{model_->config().n_layers()} * model_->config().ple_width);
    }
    place(&model_->embedding, "model.embed_tokens.weight", 0, model_->embedding.rows);
    is_tied_ = model_->head.codes == model_->embedding.codes;
    if (!is_tied_) place(&model_->head, "lm_head.weight", 0, model_->head.rows);
    twin_.weights().set_tap([this](const MatrixView& w, const at::Tensor& x, const at::Tensor& dy) {
      const Place& to = places_.at(&w);
      add_squares(twin_.weights(), dy, x, {}, to.first_row, *to.squares);
    });
    twin_.watch_inputs(&inputs_);
  }

  void add_window(const std::vector<int32_t>& ids, SplitMix64& random) {
    const auto n = static_cast<int64_t>(ids.size());
    const TokenRow row{ids, std::vector<int32_t>(ids.size(), kNotLearned), {n}};
    std::vector<int64_t> predicting(ids.size() - 1);
    for (size_t t = 0; t < predicting.size(); ++t) predicting[t] = static_cast<int64_t>(t);
    const at::Tensor hidden = twin_.hidden(row, predicting);
    const at::Tensor dz = twin_.logits(hidden.detach());
    std::vector<double> draws(predicting.size());
    for (double& u : draws) u = random.uniform();
    twin_.weights().parallel(n - 1, [&](int64_t t) {
      draw_and_differentiate(model_->config().logit_softcap, dz.select(0, t),
                             draws[static_cast<size_t>(t)]);
    });
    FrozenWeights& weights = twin_.weights();
    torch::autograd::backward({hidden}, {weights.multiply_transposed(model_->head, dz)});
    const at::NoGradGuard no_grad;
    const RowGradients lookups{
        ids, (inputs_.embedded.grad() * model_->config().embedding_scale).contiguous()};
    GradientSquares& embedding = *places_.at(&model_->embedding).squares;
    if (is_tied_) {
      add_squares(weights, dz, hidden.detach(), lookups, 0, embedding);
    } else {
      add_squares(weights, {}, {}, lookups, 0, embedding);
      add_squares(weights, dz, hidden.detach(), {}, 0, *places_.at(&model_->head).squares);
    }
    if (ple_)
      add_squares(
          weights, {}, {},
          {ids,
           (inputs_.ple.grad() * std::sqrt(double{1} * model_->config().ple_width)).contiguous()},
          0, *ple_);
    n_tokens_ += n - 1;
  }

  FisherStatistics result() const {
    FisherStatistics statistics;
    statistics.model_hash = model_->file().content_hash();
    statistics.source_hash = provenance_from_json(model_->file().metadata().provenance).source_hash;
    statistics.tokens = n_tokens_;
    const auto mean = [&](const std::vector<double>& sums) {
      std::vector<float> values;
      for (const double sum : sums)
        values.push_back(static_cast<float>(sum / static_cast<double>(n_tokens_)));
      return values;
    };
    for (const LapTensor& t : model_->file().index()) {
      const auto found = squares_.find(t.name);
      if (found != squares_.end())
        statistics.tensors.push_back(
            {t.name, mean(found->second.rows), mean(found->second.columns)});
    }
    return statistics;
  }

 private:
  struct Place {
    GradientSquares* squares;
    int64_t first_row;
  };

  static GradientSquares zeros(int64_t rows, int64_t k) {
    return {std::vector<double>(static_cast<size_t>(rows)),
            std::vector<double>(static_cast<size_t>(k))};
  }
  // Gradients of `matrix` are those of rows first_row.. of tensor `name` with `rows` rows.
  void place(const MatrixView* matrix, const std::string& name, int64_t first_row, int64_t rows) {
    GradientSquares& squares = squares_[name];
    if (squares.rows.empty()) squares = zeros(rows, matrix->k);
    places_[matrix] = {&squares, first_row};
  }

  std::shared_ptr<const Model> model_;
  ModelTwin twin_;
  TwinInputs inputs_;
  std::map<std::string, GradientSquares> squares_;  // by tensor
  std::map<const MatrixView*, Place> places_;
  GradientSquares* ple_ = nullptr;
  bool is_tied_ = false;
  int64_t n_tokens_ = 0;
};

}  // namespace

FisherStatistics measure_fisher(std::shared_ptr<const Model> model, const FisherOptions& options,
                                const Events& events) {
  if (options.window < 2 || options.n_tokens < 1)
    fail(ErrorCode::kUsage, "--fisher needs windows of at least 2 tokens, and 1 token or more");
  const ModelConfig config = model->config();
  const auto n = std::min(static_cast<size_t>(options.n_tokens), options.tokens.size());
  const std::vector<int32_t> start =
      config.bos_id >= 0 ? std::vector<int32_t>{config.bos_id} : std::vector<int32_t>{};
  const size_t room = static_cast<size_t>(options.window) - start.size();
  for (size_t i = 0; i < n; ++i)
    if (options.tokens[i] < 0 || options.tokens[i] >= config.vocab_size)
      fail(ErrorCode::kBadData, "token id {} is outside the vocabulary of {}", options.tokens[i],
           config.vocab_size);
  if (start.size() + n < 2) fail(ErrorCode::kBadData, "the text for --fisher is too short");
  at::set_num_threads(1);  // our own threads do the work: frozen_weights.h
  give_memory_back();
  return torch_call("measuring gradients", [&] {
    FisherMeter meter(std::move(model), std::max(options.n_threads, 0));
    SplitMix64 random(options.seed);
    Progress progress{.what = "windows", .done = 0, .total = (n + room - 1) / room};
    for (size_t first = 0; first < n; first += room) {
      events.poll();
      std::vector<int32_t> ids = start;
      ids.insert(ids.end(), options.tokens.begin() + static_cast<int64_t>(first),
                 options.tokens.begin() + static_cast<int64_t>(std::min(first + room, n)));
      if (ids.size() >= 2) meter.add_window(ids, random);
      ++progress.done;
      events.progress(progress);
    }
    return meter.result();
  });
}

}  // namespace lapidary
