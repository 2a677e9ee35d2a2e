// Which options were given is asked of CLI11, since their defaults are valid values too.
#include "tools/cli/sampling_options.h"

#include <CLI/CLI.hpp>

namespace lapidary {

SamplingOptions SamplingChoice::resolved(const CLI::App& command,
                                         const ModelMetadata& metadata) const {
  SamplingOptions s = sampling_from_generation_config(metadata.generation_config);
  const auto was_given = [&](const char* name) { return command.get_option(name)->count() > 0; };
  if (was_given("--temperature")) s.temperature = given.temperature;
  if (was_given("--top-k")) s.top_k = given.top_k;
  if (was_given("--top-p")) s.top_p = given.top_p;
  if (was_given("--min-p")) s.min_p = given.min_p;
  if (was_given("--repetition-penalty")) s.repetition_penalty = given.repetition_penalty;
  if (was_given("--presence-penalty")) s.presence_penalty = given.presence_penalty;
  if (was_given("--frequency-penalty")) s.frequency_penalty = given.frequency_penalty;
  s.seed = given.seed;
  s.greedy = greedy;
  validate(s);
  return s;
}

void add_sampling_options(CLI::App& command, SamplingChoice& choice) {
  SamplingOptions& s = choice.given;
  command.add_flag("--greedy", choice.greedy, "Always the most likely token");
  command.add_option("--temperature", s.temperature, "Default: the model's own; 0 is greedy");
  command.add_option("--top-k", s.top_k, "Only the K most likely; 0: off");
  command.add_option("--top-p", s.top_p, "Only the most likely up to this total probability");
  command.add_option("--min-p", s.min_p, "Only tokens at least this likely relative to the best");
  command.add_option("--repetition-penalty", s.repetition_penalty,
                     "Over 1 discourages seen tokens");
  command.add_option("--presence-penalty", s.presence_penalty,
                     "Subtracted from logits of seen tokens");
  command.add_option("--frequency-penalty", s.frequency_penalty, "Subtracted per occurrence");
  command.add_option("--seed", s.seed, "Same seed, same text")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 62))
      ->capture_default_str();
}

}  // namespace lapidary
