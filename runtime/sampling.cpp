// The sampling chain, its random numbers, and defaults from generation_config.json.
//
// Random numbers: xoroshiro128++ seeded through splitmix64 (Blackman and Vigna, "Scrambled linear
// pseudorandom number generators", 2021), both written from the published recurrences.
#include "runtime/sampling.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <nlohmann/json.hpp>

#include "formats/error.h"

namespace lapidary {
namespace {

uint64_t splitmix64(uint64_t& state) {
  uint64_t z = state += 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

uint64_t xoroshiro128(uint64_t (&s)[2]) {
  const uint64_t result = std::rotl(s[0] + s[1], 17) + s[0];
  const uint64_t mixed = s[0] ^ s[1];
  s[0] = std::rotl(s[0], 49) ^ mixed ^ (mixed << 21);
  s[1] = std::rotl(mixed, 28);
  return result;
}

// The 53 bits that a double holds, in [0, 1).
double uniform(uint64_t (&s)[2]) { return static_cast<double>(xoroshiro128(s) >> 11) * 0x1p-53; }

void check_range(const char* field, double value, double low, double high, bool low_open = false) {
  // Written so that NaN fails.
  if (!(low_open ? value > low : value >= low) || !(value <= high))
    fail(ErrorCode::kUsage, "sampling: {} is {}, expected {} {} to {}", field, value,
         low_open ? "above" : "from", low, high);
}

}  // namespace

void validate(const SamplingOptions& options) {
  constexpr double kMost = 1e6;  // beyond any use; keeps products finite
  check_range("temperature", options.temperature, 0.0, kMost);
  check_range("top_k", options.top_k, 0, INT32_MAX);
  check_range("top_p", options.top_p, 0.0, 1.0, true);
  check_range("min_p", options.min_p, 0.0, 1.0);
  check_range("repetition_penalty", options.repetition_penalty, 0.0, kMost, true);
  check_range("presence_penalty", options.presence_penalty, -kMost, kMost);
  check_range("frequency_penalty", options.frequency_penalty, -kMost, kMost);
}

SamplingOptions sampling_from_generation_config(std::string_view json) {
  const auto config = nlohmann::json::parse(json, nullptr, /*exceptions=*/false);
  if (!config.is_object()) fail(ErrorCode::kBadData, "generation config: expected a JSON object");
  const auto number = [&](const char* key, double otherwise) {
    const auto found = config.find(key);
    if (found == config.end() || found->is_null()) return otherwise;
    if (!found->is_number())
      fail(ErrorCode::kBadData, "generation config: {} is {}, expected a number", key,
           found->dump());
    return found->get<double>();
  };
  SamplingOptions options;
  const auto do_sample = config.find("do_sample");
  if (do_sample != config.end() && !do_sample->is_null() && !do_sample->is_boolean())
    fail(ErrorCode::kBadData, "generation config: do_sample is {}, expected true or false",
         do_sample->dump());
  // transformers decodes greedily unless the file says otherwise.
  options.greedy = do_sample == config.end() || do_sample->is_null() || !do_sample->get<bool>();
  options.temperature = static_cast<float>(number("temperature", options.temperature));
  const double top_k = number("top_k", options.top_k);
  options.top_p = static_cast<float>(number("top_p", options.top_p));
  options.min_p = static_cast<float>(number("min_p", options.min_p));
  options.repetition_penalty =
      static_cast<float>(number("repetition_penalty", options.repetition_penalty));
  check_range("top_k", top_k, 0, INT32_MAX);
  options.top_k = static_cast<int>(top_k);
  validate(options);
  return options;
}

Sampler::Sampler(const SamplingOptions& options, int64_t vocab_size)
    : options_(options), counts_(vocab_size, 0), in_prompt_(vocab_size, 0) {
  validate(options);
  if (options.temperature == 0.0f) options_.greedy = true;
  uint64_t state = options.seed;
  for (uint64_t& word : rng_) word = splitmix64(state);
  candidates_.reserve(vocab_size);
}

void Sampler::record(int32_t token) { ++counts_.at(token); }
void Sampler::record_prompt(std::span<const int32_t> tokens) {
  for (const int32_t token : tokens) in_prompt_.at(token) = 1;
}

float Sampler::penalized(float logit, int32_t id) const {
  if (counts_[id] > 0 || in_prompt_[id])
    logit =
        logit > 0.0f ? logit / options_.repetition_penalty : logit * options_.repetition_penalty;
  if (counts_[id] > 0)
    logit -=
        options_.presence_penalty + options_.frequency_penalty * static_cast<float>(counts_[id]);
  return logit;
}

// The best `count` candidates come first, in order: higher logit, then lower id.
void Sampler::order_best(size_t count) {
  if (count < candidates_.size())
    std::nth_element(candidates_.begin(), candidates_.begin() + static_cast<ptrdiff_t>(count),
                     candidates_.end(), better);
  std::sort(candidates_.begin(),
            candidates_.begin() + static_cast<ptrdiff_t>(std::min(count, candidates_.size())),
            better);
}

// Keeps the shortest run of best candidates whose probability reaches top_p. Sorting everything
// would cost more than the forward pass of a small model, so the sorted head grows as needed.
void Sampler::cut_to_top_p(float best) {
  double total = 0.0;
  for (const Candidate& c : candidates_) total += std::exp(double{c.logit} - double{best});
  const double wanted = double{options_.top_p} * total;
  for (size_t head = 64;; head *= 8) {
    order_best(head);
    double sum = 0.0;
    for (size_t i = 0; i < std::min(head, candidates_.size()); ++i) {
      sum += std::exp(double{candidates_[i].logit} - double{best});
      if (sum >= wanted) {
        candidates_.resize(i + 1);
        return;
      }
    }
    if (head >= candidates_.size()) return;
  }
}

// Keeps the best, and when sampling all that are possible.
void Sampler::consider(float logit, int32_t id, Candidate& best) {
  logit = penalized(logit, id);
  if (!(logit > -INFINITY)) return;  // masked, or NaN
  if (logit > best.logit) best = {logit, id};
  if (!options_.greedy) candidates_.push_back({logit / options_.temperature, id});
}

int32_t Sampler::sample(std::span<const float> logits, std::span<const uint64_t> mask) {
  LAPIDARY_CHECK(logits.size() == counts_.size() && !logits.empty());
  candidates_.clear();
  Candidate best;
  if (mask.empty()) {
    for (size_t i = 0; i < logits.size(); ++i) consider(logits[i], static_cast<int32_t>(i), best);
  } else {
    LAPIDARY_CHECK(mask.size() == (logits.size() + 63) / 64);
    best.id = -1;
    for (size_t word = 0; word < mask.size(); ++word)
      for (uint64_t bits = mask[word]; bits != 0; bits &= bits - 1) {
        const size_t i = 64 * word + static_cast<size_t>(std::countr_zero(bits));
        if (best.id < 0) best.id = static_cast<int32_t>(i);  // when every logit is minus infinity
        consider(logits[i], static_cast<int32_t>(i), best);
      }
    LAPIDARY_CHECK(best.id >= 0);
  }
  // With an infinite logit no probabilities exist, but the choice is clear.
  if (options_.greedy || candidates_.empty() || !std::isfinite(best.logit / options_.temperature))
    return best.id;
  return draw(best.logit / options_.temperature);
}

int Sampler::n_best() const {
  const bool penalizes = options_.repetition_penalty != 1.0f || options_.presence_penalty != 0.0f ||
                         options_.frequency_penalty != 0.0f;
  if (penalizes) return 0;
  if (options_.greedy) return 1;
  return options_.top_k <= kMostBest ? options_.top_k : 0;
}

int32_t Sampler::sample(std::span<const Candidate> best) {
  LAPIDARY_CHECK(!best.empty());
  candidates_.clear();
  for (const Candidate& c : best)
    if (c.logit > -INFINITY) candidates_.push_back({c.logit / options_.temperature, c.id});
  const float top = best[0].logit / options_.temperature;
  if (options_.greedy || candidates_.empty() || !std::isfinite(top)) return best[0].id;
  return draw(top);
}

// From candidates_, whose logits are divided by the temperature; `best` is their largest.
int32_t Sampler::draw(float best) {
  if (options_.top_k > 0 && static_cast<size_t>(options_.top_k) < candidates_.size()) {
    order_best(static_cast<size_t>(options_.top_k));
    candidates_.resize(static_cast<size_t>(options_.top_k));
  }
  if (options_.top_p < 1.0f) cut_to_top_p(best);
  if (options_.min_p > 0.0f) {
    const float least = best + std::log(options_.min_p);
    std::erase_if(candidates_, [&](const Candidate& c) { return c.logit < least; });
  }

  double total = 0.0;
  for (const Candidate& c : candidates_) total += std::exp(double{c.logit} - double{best});
  double left = uniform(rng_) * total;
  for (const Candidate& c : candidates_) {
    left -= std::exp(double{c.logit} - double{best});
    if (left < 0.0) return c.id;
  }
  return candidates_.back().id;  // rounding left a crumb
}

}  // namespace lapidary
