// Trials, then a greedy walk down from 16 bits.
#include "quantize/kv_auto.h"

#include <algorithm>
#include <limits>

#include "formats/error.h"
#include "formats/lap.h"
#include "runtime/kv_choice.h"
#include "runtime/kv_plan.h"
#include "runtime/verify/text_measure.h"

namespace lapidary {
namespace {

constexpr double kDefaultMaxKld = 0.002;  // nats: far below what 4-bit weights cost

class Trials {
 public:
  Trials(const std::string& model_path, const KvAutoOptions& options, const Events& events)
      : path_(model_path), options_(options), events_(events) {
    how_.engine.n_threads = options.n_threads;
    how_.kv = KvOptions();
    base_ = make_engine_scorer(path_, how_);
  }
  const ModelConfig& config() const { return base_->metadata().config; }

  double kld(const KvOptions& kv) {
    how_.kv = kv;
    const auto candidate = make_engine_scorer(path_, how_);
    return compare_text(*base_, *candidate, options_.text,
                        {options_.context, options_.limit_tokens}, events_)
        .kld_mean;
  }

 private:
  std::string path_;
  const KvAutoOptions& options_;
  const Events& events_;
  EngineScorerOptions how_;
  std::unique_ptr<Scorer> base_;
};

std::vector<KvLayerCode> candidates(const ModelConfig& config, int layer) {
  std::vector<KvLayerCode> codes;
  if (can_store_v_only(config, layer))
    for (const char* name : {"v8", "v5", "v4"}) codes.push_back(kv_layer_code(name));
  else
    for (const char* name : {"k8v8", "k8v4", "k4v4", "k4v3", "k3v3"})
      codes.push_back(kv_layer_code(name));
  return codes;
}

double growth(const ModelConfig& config, const KvOptions& options) {
  double bytes = 0;
  for (const KvLayerPlan& layer : plan_kv(config, options, kPageTokens, 1).layers)
    bytes += layer.bytes_per_token();
  return bytes;
}

KvOptions all_16_bit(const ModelConfig& config) {
  KvOptions options;
  options.layers.resize(config.layers.size());
  return options;
}

// What the trials say of a layer's code; 16 bits cost nothing.
double cost(const std::vector<KvTrial>& trials, int layer, const KvLayerCode& code) {
  for (const KvTrial& t : trials)
    if (t.layer == layer && t.code == code) return t.kld;
  return 0;
}

// One step: the trial that saves the most bytes for what it adds; null: none saves any.
const KvTrial* best_step(const ModelConfig& config, const std::vector<KvTrial>& trials,
                         const KvOptions& now, double kld_left) {
  const KvTrial* best = nullptr;
  double best_rate = -1;
  for (const KvTrial& t : trials) {
    KvOptions next = now;
    KvLayerCode& code = next.layers[static_cast<size_t>(t.layer)];
    const double added = t.kld - cost(trials, t.layer, code);
    code = t.code;
    const double saved = growth(config, now) - growth(config, next);
    if (saved <= 0 || added > kld_left) continue;
    const double rate = added > 0 ? saved / added : std::numeric_limits<double>::infinity();
    if (rate > best_rate) best = &t, best_rate = rate;
  }
  return best;
}

}  // namespace

KvAutoReport choose_kv(const std::string& model_path, const KvAutoOptions& options,
                       const Events& events) {
  Trials trials(model_path, options, events);
  const ModelConfig& config = trials.config();
  KvAutoReport report;
  for (int l = 0; l < config.n_layers(); ++l) {
    if (!config.owns_kv(l) || config.layers[l].attention == AttentionKind::kSliding) continue;
    for (const KvLayerCode& code : candidates(config, l)) {
      KvOptions alone = all_16_bit(config);
      alone.layers[static_cast<size_t>(l)] = code;
      alone.ends = {0, 0};
      const double rest = growth(config, all_16_bit(config));
      const auto plan = plan_kv(config, all_16_bit(config), kPageTokens, 1);
      double own = 0;
      for (const KvLayerPlan& layer : plan.layers)
        if (layer.layer == l) own = layer.bytes_per_token();
      report.trials.push_back({l, code, trials.kld(alone), growth(config, alone) - (rest - own)});
    }
  }

  report.chosen = all_16_bit(config);
  const double limit = options.max_kld.value_or(
      options.bytes_per_token ? std::numeric_limits<double>::infinity() : kDefaultMaxKld);
  const auto within_budget = [&] {
    return options.bytes_per_token && growth(config, report.chosen) <= *options.bytes_per_token;
  };
  double kld = 0;
  while (!within_budget()) {
    const KvTrial* step = best_step(config, report.trials, report.chosen, limit - kld);
    if (!step) break;
    KvLayerCode& code = report.chosen.layers[static_cast<size_t>(step->layer)];
    kld += step->kld - cost(report.trials, step->layer, code);
    code = step->code;
  }
  report.bytes_per_token = growth(config, report.chosen);
  if (options.bytes_per_token && !within_budget())
    fail(ErrorCode::kUsage,
         "KV cache: {:.0f} bytes per token is the least within the limits, {:.0f} were asked for",
         report.bytes_per_token, *options.bytes_per_token);
  KvOptions whole = report.chosen;
  whole.ends = {0, 0};
  report.kld = trials.kld(whole);
  return report;
}

void record_kv(const std::string& model_path, const KvOptions& chosen) {
  const std::unique_ptr<LapReader> lap = LapReader::open(model_path);
  ModelMetadata metadata = lap->metadata();
  metadata.kv = kv_to_json(metadata.config, chosen);
  const std::string tokenizer = lap->tokenizer_json();
  LapWriter writer(model_path, metadata, {tokenizer, lap->tokenizer_tables()}, lap->index());
  for (size_t i = 0; i < lap->index().size(); ++i) writer.append(i, lap->data(lap->index()[i]));
  writer.commit();
}

}  // namespace lapidary
