// Ties twin, adapter and optimizer together, and turns LibTorch's exceptions into Error.
#include "finetune/trainer.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/ranges.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <thread>

#include "finetune/model_twin.h"
#include "finetune/optimizer.h"
#include "finetune/torch_call.h"
#include "formats/error.h"

namespace lapidary {
namespace {

int thread_count(int wanted) {
  return wanted > 0 ? wanted : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

// For what is compared with other programs.
class InFloat32 {
 public:
  explicit InFloat32(FrozenWeights& weights) : weights_(weights), before_(weights.precision()) {
    weights_.set_precision(Precision::kFloat32);
  }
  ~InFloat32() { weights_.set_precision(before_); }

 private:
  FrozenWeights& weights_;
  Precision before_;
};

TokenRow single_row(std::span<const int32_t> ids) {
  return {{ids.begin(), ids.end()},
          std::vector<int32_t>(ids.size(), kNotLearned),
          {static_cast<int64_t>(ids.size())}};
}

void check_ids(const TokenRow& row, int64_t vocab_size) {
  for (const int32_t id : row.ids)
    if (id < 0 || id >= vocab_size)
      fail(ErrorCode::kBadData, "token id {} is outside the vocabulary of {}", id, vocab_size);
}

NamedFloats named(const std::string& name, const at::Tensor& tensor) {
  const at::Tensor t = tensor.detach().contiguous();
  return {name, t.sizes().vec(), {t.data_ptr<float>(), t.data_ptr<float>() + t.numel()}};
}

}  // namespace

Precision parse_precision(const std::string& name) {
  if (name == "auto") return native_precision();
  if (name == "bf16" && !has_bfloat16_kernels())
    fail(ErrorCode::kUsage, "--precision bf16: LibTorch has no such products for this processor");
  if (name == "bf16") return Precision::kBFloat16;
  if (name != "f32") fail(ErrorCode::kUsage, "--precision should be auto, bf16 or f32");
  return Precision::kFloat32;
}

struct Trainer::State {
  State(std::shared_ptr<const Model> model, const PeftAdapter& initial, const TrainerOptions& o)
      : options(o),
        twin(std::move(model), thread_count(o.n_threads), o.precision),
        lora(initial, twin.adaptable(), twin.weights()),
        optimizer(o, trained_tensors()) {
    twin.set_adapter(&lora);
    twin.set_kept_bytes(o.kept_bytes);
  }

  std::vector<TrainedTensor> trained_tensors() {
    std::vector<TrainedTensor> tensors;
    for (LoraWeights& w : lora.modules()) {
      const bool shared = w.n_experts > 0;
      tensors.push_back({w.module + ".a", w.a, 1.0, shared});
      tensors.push_back({w.module + ".b", w.b, options.lora_plus_ratio, shared});
      if (w.magnitude.defined())
        tensors.push_back({w.module + ".magnitude", w.magnitude, 1.0, shared});
    }
    return tensors;
  }

  // What the next forward pass needs to know of the adapter's present values.
  void refresh() {
    lora.refresh(twin.weights());
    if (options.merge_rounding) merged.refresh(lora, options.merge_rounding, twin.weights());
  }

  // Sums loss, KL and gradients over all processes, in the same order everywhere.
  void reduce(StepResult& result) {
    if (!options.group) return;
    double sums[] = {result.loss, result.kl};
    options.group->sum(std::span<double>(sums));
    result.loss = sums[0];
    result.kl = sums[1];
    std::vector<at::Tensor> parts;
    for (const TrainedTensor& t : optimizer.tensors())
      parts.push_back(t.value.grad().defined() ? t.value.grad().flatten()
                                               : at::zeros({t.value.numel()}, at::kFloat));
    const at::Tensor flat = at::cat(parts);
    options.group->sum(std::span(flat.data_ptr<float>(), static_cast<size_t>(flat.numel())));
    int64_t begin = 0;
    for (TrainedTensor& t : optimizer.tensors()) {
      const at::Tensor sum = flat.narrow(0, begin, t.value.numel()).view(t.value.sizes());
      if (t.value.grad().defined())
        t.value.mutable_grad().copy_(sum);  // others may share it
      else
        t.value.mutable_grad() = sum.clone();
      begin += t.value.numel();
    }
  }

  // One row forward and backward; adds to the result's loss and to its sum of KL. `weights`: of one
  // kept token.
  void train_on(const TokenRow& row, double n_learned, const KeepWeights& weights,
                StepResult& result) {
    const std::vector<int64_t> tokens = measured_tokens(row, weights);
    if (tokens.empty()) return;
    const at::Tensor hidden = twin.hidden(row, tokens, options.checkpoint_activations);
    const at::Tensor loss = twin.loss(row, tokens, hidden, 1.0 / n_learned);
    if (loss.defined()) result.loss += loss.item<double>();
    const KeepLoss keep = twin.kl_to_base(row, hidden, weights);
    result.kl += keep.kl;
    if (!keep.loss.defined())
      torch::autograd::backward({loss}, {});
    else
      torch::autograd::backward({loss.defined() ? loss + keep.loss : keep.loss}, {});
  }

  TrainerOptions options;
  ModelTwin twin;
  LoraSet lora;
  AdamW optimizer;
  MergedMatrices merged;
};

Trainer::Trainer(std::shared_ptr<const Model> model, const PeftAdapter& initial,
                 const TrainerOptions& options) {
  at::set_num_threads(1);  // our own threads do the work: frozen_weights.h
  give_memory_back();
  torch_call("loading the model for training",
             [&] { state_ = std::make_unique<State>(std::move(model), initial, options); });
}

Trainer::~Trainer() = default;

PeftAdapter Trainer::initial_adapter(const Model& model, const PeftConfig& config, uint64_t seed,
                                     const std::vector<std::string>& rank_for) {
  // A non-owning pointer: the twin only lists the matrices here.
  const ModelTwin twin(std::shared_ptr<const Model>(std::shared_ptr<void>(), &model), 1,
                       Precision::kFloat32);
  PeftConfig complete = config;
  resolve_targets(complete, twin.adaptable());
  set_ranks(complete, rank_for, twin.adaptable());
  return new_adapter(complete, twin.adaptable(), seed);
}

StepResult Trainer::step(std::span<const TokenRow> rows, double learning_rate) {
  StepResult result;
  int64_t n_general = 0, n_prompt = 0;
  for (const TokenRow& row : rows) {
    check_ids(row, state_->twin.config().vocab_size);
    result.n_learned += row.n_learned();
    n_general += row.n_kept(Keep::kAll);
    n_prompt += row.n_kept(Keep::kPrompt);
  }
  const auto per_token = [](double weight, int64_t n) {
    return n > 0 ? weight / static_cast<double>(n) : 0.0;
  };
  const KeepWeights weights{per_token(state_->options.kl_to_base, n_general),
                            per_token(state_->options.kl_prompts, n_prompt)};
  if (result.n_learned == 0) fail(ErrorCode::kBadData, "a step without a single token to learn");
  torch_call("a training step", [&] {
    state_->refresh();
    const ProcessGroup* group = state_->options.group;
    const size_t rank = group ? static_cast<size_t>(group->rank()) : 0;
    const size_t n_processes = group ? static_cast<size_t>(group->size()) : 1;
    for (size_t i = rank; i < rows.size(); i += n_processes)
      state_->train_on(rows[i], static_cast<double>(result.n_learned), weights, result);
    state_->reduce(result);
    if (n_general > 0) result.kl /= static_cast<double>(n_general);
    result.gradient_norm = state_->optimizer.gradient_norm();
    if (!std::isfinite(result.loss) || !std::isfinite(result.gradient_norm)) {
      state_->optimizer.clear_gradients();
      fail(
          ErrorCode::kBadData,
          "the loss ({}) or its gradient ({}) is not finite at step {}; use a lower --lr or --clip",
          result.loss, result.gradient_norm, state_->optimizer.steps_done() + 1);
    }
    state_->optimizer.step(learning_rate, result.gradient_norm);
  });
  return result;
}

std::vector<RowMeasure> Trainer::measure(std::span<const TokenRow> rows) {
  return torch_call("an evaluation", [&] {
    const at::NoGradGuard no_grad;
    state_->refresh();
    std::vector<RowMeasure> measures;
    for (const TokenRow& row : rows) {
      check_ids(row, state_->twin.config().vocab_size);
      RowMeasure& m = measures.emplace_back();
      m.n_learned = row.n_learned();
      m.n_kept = row.n_kept(Keep::kAll);
      const KeepWeights weights{1.0, 0.0};
      const std::vector<int64_t> tokens = measured_tokens(row, weights);
      if (tokens.empty()) continue;
      const at::Tensor hidden = state_->twin.hidden(row, tokens);
      const at::Tensor loss = state_->twin.loss(row, tokens, hidden, 1.0);
      if (loss.defined()) m.nll = loss.item<double>();
      m.kl = state_->twin.kl_to_base(row, hidden, weights).kl;
    }
    return measures;
  });
}

double Trainer::evaluate(std::span<const TokenRow> rows) {
  double sum = 0;
  int64_t n = 0;
  for (const RowMeasure& m : measure(rows)) {
    sum += m.nll;
    n += m.n_learned;
  }
  return n ? sum / static_cast<double>(n) : 0.0;
}

std::vector<float> Trainer::logits(std::span<const int32_t> ids) {
  const TokenRow row = single_row(ids);
  check_ids(row, state_->twin.config().vocab_size);
  return torch_call("a forward pass", [&] {
    const at::NoGradGuard no_grad;
    const InFloat32 in_float32(state_->twin.weights());
    state_->refresh();
    const at::Tensor z = state_->twin.logits(state_->twin.hidden(row)).contiguous();
    return std::vector<float>(z.data_ptr<float>(), z.data_ptr<float>() + z.numel());
  });
}

void Trainer::tap_layers(std::span<const int32_t> ids,
                         const std::function<void(int layer, std::span<const float> hidden)>& f) {
  const TokenRow row = single_row(ids);
  check_ids(row, state_->twin.config().vocab_size);
  torch_call("a forward pass", [&] {
    const at::NoGradGuard no_grad;
    const InFloat32 in_float32(state_->twin.weights());
    state_->refresh();
    state_->twin.hidden(row, {}, false, [&](int layer, const at::Tensor& hidden) {
      const at::Tensor h = hidden.contiguous();
      f(layer, {h.data_ptr<float>(), static_cast<size_t>(h.numel())});
    });
  });
}

PeftAdapter Trainer::adapter() const { return state_->lora.to_peft(); }

int64_t Trainer::trained_parameters() const { return state_->lora.trained_parameters(); }

TrainerState Trainer::state() const {
  TrainerState out;
  out.steps_done = state_->optimizer.steps_done();
  for (const TrainedTensor& t : state_->optimizer.tensors()) {
    out.tensors.push_back(named(t.name, t.value));
    out.tensors.push_back(named(t.name + ".first_moment", moment_of(t, t.first_moment)));
    out.tensors.push_back(named(t.name + ".second_moment", moment_of(t, t.second_moment)));
  }
  return out;
}

void Trainer::restore(const TrainerState& state) {
  const at::NoGradGuard no_grad;
  auto& tensors = state_->optimizer.tensors();
  if (state.tensors.size() != 3 * tensors.size())
    fail(ErrorCode::kBadData, "the checkpoint holds {} tensors, this run needs {}",
         state.tensors.size(), 3 * tensors.size());
  size_t next = 0;
  const auto take = [&](const std::string& name, at::Tensor& to) {
    const NamedFloats& from = state.tensors[next++];
    if (from.name != name || from.shape != to.sizes().vec())
      fail(ErrorCode::kBadData, "the checkpoint's tensor {} [{}] stands where {} [{}] should",
           from.name, fmt::join(from.shape, ", "), name, fmt::join(to.sizes().vec(), ", "));
    std::memcpy(to.data_ptr<float>(), from.values.data(), from.values.size() * sizeof(float));
  };
  for (TrainedTensor& t : tensors) {
    take(t.name, t.value);
    for (auto& [name, moment] : {std::pair(".first_moment", &t.first_moment),
                                 std::pair(".second_moment", &t.second_moment)}) {
      at::Tensor values = moment_of(t, *moment);
      take(t.name + name, values);
      set_moment(*moment, values);
    }
  }
  state_->optimizer.set_steps_done(state.steps_done);
}

}  // namespace lapidary
