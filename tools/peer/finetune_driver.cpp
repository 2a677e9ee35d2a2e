// Training steps on random tokens of a .lap model, timed: our side of `tools/bench_peer.sh
// finetune`.
//
// usage: finetune_driver MODEL.lap [--tokens N] [--rows N] [--labelled SHARE] [--rank R]
//                        [--steps N] [--precision P] [--rank-for NAME=R] [--adam-8bit]
//                        [--keep-activations] [--kept-outputs BYTES]
//
// One JSON object: seconds of each step, its loss, trained parameters, peak memory in bytes (the
// mapped model included, as far as it was touched).
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>

#include "finetune/trainer.h"
#include "formats/error.h"
#include "runtime/verify/random.h"

namespace lapidary {
namespace {

struct Arguments {
  std::string model, precision = "auto";
  int64_t tokens = 256, rows = 1, steps = 2;
  double labelled = 1.0;
  int rank = 16;
  int64_t kept_bytes = kKeptBytes;
  bool checkpoint = true, adam_8bit = false;
  std::vector<std::string> targets{"all-linear"}, rank_for;
};

Arguments parse(int argc, char** argv) {
  Arguments a;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--keep-activations") {
      a.checkpoint = false;
      continue;
    }
    if (name == "--adam-8bit") {
      a.adam_8bit = true;
      continue;
    }
    if (!name.starts_with("--")) {
      a.model = name;
      continue;
    }
    if (i + 1 == argc) fail(ErrorCode::kUsage, "{} needs a value", name);
    const std::string value = argv[++i];
    if (name == "--tokens")
      a.tokens = std::stoll(value);
    else if (name == "--rows")
      a.rows = std::stoll(value);
    else if (name == "--steps")
      a.steps = std::stoll(value);
    else if (name == "--labelled")
      a.labelled = std::stod(value);
    else if (name == "--rank")
      a.rank = std::stoi(value);
    else if (name == "--rank-for")
      a.rank_for.push_back(value);
    else if (name == "--kept-outputs")
      a.kept_bytes = std::stoll(value);
    else if (name == "--precision")
      a.precision = value;
    else
      fail(ErrorCode::kUsage, "{}: no such option", name);
  }
  if (a.model.empty() || a.tokens < 2) fail(ErrorCode::kUsage, "usage: finetune_driver MODEL.lap");
  return a;
}

// Labels stand at the end, as answers do.
TokenRow random_row(const Arguments& a, int32_t vocab, SplitMix64& random) {
  TokenRow row;
  const auto first = static_cast<int64_t>(static_cast<double>(a.tokens) * (1 - a.labelled));
  for (int64_t t = 0; t < a.tokens; ++t) {
    row.ids.push_back(static_cast<int32_t>(random.below(static_cast<uint64_t>(vocab))));
    row.labels.push_back(t >= first ? row.ids.back() : kNotLearned);
  }
  row.lengths = {a.tokens};
  return row;
}

int run(int argc, char** argv) {
  const Arguments a = parse(argc, argv);
  const auto model = Model::load(a.model);
  PeftConfig config;
  config.rank = a.rank;
  config.alpha = 2.0 * a.rank;
  config.target_modules = a.targets;
  TrainerOptions options;
  options.checkpoint_activations = a.checkpoint;
  options.kept_bytes = a.kept_bytes;
  options.adam_8bit = a.adam_8bit;
  options.precision = parse_precision(a.precision);
  Trainer trainer(model, Trainer::initial_adapter(*model, config, 1, a.rank_for), options);
  SplitMix64 random(7);
  std::vector<double> seconds, losses;
  for (int64_t step = 0; step < a.steps; ++step) {
    std::vector<TokenRow> rows;
    for (int64_t r = 0; r < a.rows; ++r)
      rows.push_back(random_row(a, model->config().vocab_size, random));
    const auto start = std::chrono::steady_clock::now();
    losses.push_back(trainer.step(rows, 1e-4).loss);
    seconds.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  fmt::print("{{\"seconds\": [{}], \"losses\": [{}], \"trained\": {}, \"peak_bytes\": {}}}\n",
             fmt::join(seconds, ", "), fmt::join(losses, ", "), trainer.trained_parameters(),
             usage.ru_maxrss * 1024L);
  return 0;
}

}  // namespace
}  // namespace lapidary

int main(int argc, char** argv) {
  try {
    return lapidary::run(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
