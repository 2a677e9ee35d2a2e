// All examples of a run: domain data, general sources with weights, held-out sets; what of them
// goes into which step, and what stands in them twice.
#pragma once

#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "finetune/example_store.h"
#include "finetune/examples.h"
#include "finetune/plan.h"
#include "finetune/records.h"
#include "finetune/token_row.h"
#include "formats/events.h"

namespace lapidary {

// "FILE" or "FILE=WEIGHT".
struct GeneralSource {
  std::string path;
  double weight = 1;
};
GeneralSource parse_general(const std::string& text);  // throws kUsage

// Finds examples seen before: whole ones, and prompts, by hash.
class SeenExamples {
 public:
  // Both counts are of examples that were there before this one.
  struct Verdict {
    bool same = false, same_prompt = false;
  };
  Verdict add(const Example& example);
  Verdict find(const Example& example) const;

 private:
  // 64 bits of a 128-bit hash: among 1e8 examples one false alarm in 3,700 runs.
  std::unordered_map<uint64_t, uint8_t> hashes_;
};

struct SourceSummary {
  std::string path;
  Hash128 hash;  // of the file's text
  ExampleCounts counts;
  int64_t n_duplicates = 0;  // same tokens as an earlier example of any source
};

struct LoadedSource {
  SourceSummary summary;
  ExampleStore examples;
};

class ExampleLoader {
 public:
  // `maker` and `events` must outlive this. `spill_folder`: for examples beyond memory.
  ExampleLoader(const ExampleMaker& maker, std::string spill_folder, const Events& events)
      : maker_(maker), spill_folder_(std::move(spill_folder)), events_(events) {}

  // Reads a file to be learned from, and notes what was cut, left out or doubled. `hold_out` > 0:
  // every so many-th example is kept out of it and given to `held_out` instead. Throws kBadData
  // when no example is left.
  LoadedSource load(const std::string& path, int64_t hold_out = 0,
                    std::vector<Example>* held_out = nullptr);
  // Reads a file to measure on, and notes which of its examples were loaded for learning before.
  std::vector<Example> load_held_out(const std::string& path);

 private:
  const ExampleMaker& maker_;
  std::string spill_folder_;
  const Events& events_;
  SeenExamples seen_;
};

// What is done with the examples of each kind.
struct ExampleUse {
  Keep domain = Keep::kNothing, general = Keep::kNothing;
  bool learn_general = true;  // false: they are there to be kept
};

// Rows of one planned step. `stores[0]`: domain, then the general sources.
std::vector<TokenRow> rows_of(const PlannedStep& step,
                              const std::vector<const ExampleStore*>& stores,
                              const ExampleUse& use);
// One row per example; `keep` for all of them.
std::vector<TokenRow> rows_of(const std::vector<Example>& examples, Keep keep);

}  // namespace lapidary
