// Models with the true shapes of the Gemma 4 family and random weights, made from nothing: for work
// on speed and memory, where values mean nothing and gigabytes of download would.
//
// A synthetic model is an ordinary ModelSource: its config goes through the same reading as a
// downloaded one. Random answers never stop by themselves, so it names no stop tokens.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "formats/model_source.h"

namespace lapidary {

// Standard deviation of a random weight, as trained models have it: activations stay near 1.
inline constexpr float kSyntheticDeviation = 0.02f;

struct SyntheticModel {
  std::string shape;        // one of synthetic_shapes()
  int n_layers = 0;         // 0: all; else the first N, rounded up to whole attention periods
  int vocab_size = 262144;  // 320 to 262144
};

// "e2b", "e4b", "26b-a4b", "31b"
std::vector<std::string> synthetic_shapes();

// Throws kUsage for an unknown shape and for numbers out of range.
std::unique_ptr<ModelSource> synthetic_source(const SyntheticModel& model);

// config.json of a shape, as its publisher writes it. Same errors.
std::string synthetic_config(const SyntheticModel& model);

// tokenizer.json with `vocab_size` tokens and twice as many merges, built like Gemma's: 4 special
// tokens, 256 bytes, then words of a to z and the space mark. REQUIRES: vocab_size >= 320.
std::string synthetic_tokenizer(int vocab_size);

}  // namespace lapidary
