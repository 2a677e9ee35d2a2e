// Reading sources, and finding what stands in two of them.
#include "finetune/data_set.h"

#include <cmath>

#include "formats/error.h"
#include "formats/hash.h"

namespace lapidary {
namespace {

constexpr uint8_t kWhole = 1, kPrompt = 2;

uint64_t hash_of(const std::vector<int32_t>& ids, size_t n) {
  return hash_bytes({reinterpret_cast<const uint8_t*>(ids.data()), n * sizeof(int32_t)}).low;
}

// Tokens before the first that is learned: what the model is asked. A text has none.
size_t prompt_tokens(const Example& example) {
  size_t n = 0;
  while (n < example.labels.size() && example.labels[n] == kNotLearned) ++n;
  return n;
}

void append(TokenRow& row, const Example& example, int64_t n_tokens, Keep keep, bool learn) {
  row.ids.insert(row.ids.end(), example.ids.begin(), example.ids.begin() + n_tokens);
  if (learn)
    row.labels.insert(row.labels.end(), example.labels.begin(), example.labels.begin() + n_tokens);
  else
    row.labels.resize(row.ids.size(), kNotLearned);
  row.lengths.push_back(n_tokens);
  row.keeps.push_back(keep);
}

}  // namespace

GeneralSource parse_general(const std::string& text) {
  const size_t at = text.rfind('=');
  if (at == std::string::npos) return {text, 1};
  size_t used = 0;
  double weight = 0;
  try {
    weight = std::stod(text.substr(at + 1), &used);
  } catch (const std::exception&) {
    return {text, 1};  // a file name with = in it
  }
  if (at + 1 + used != text.size()) return {text, 1};
  if (!std::isfinite(weight) || weight <= 0 || at == 0)
    fail(ErrorCode::kUsage, "--general \"{}\": expected FILE or FILE=WEIGHT with a weight above 0",
         text);
  return {text.substr(0, at), weight};
}

SeenExamples::Verdict SeenExamples::find(const Example& example) const {
  const auto has = [&](size_t n, uint8_t kind) {
    const auto found = hashes_.find(hash_of(example.ids, n));
    return found != hashes_.end() && (found->second & kind) != 0;
  };
  const size_t prompt = prompt_tokens(example);
  return {has(example.ids.size(), kWhole), prompt > 0 && has(prompt, kPrompt)};
}

SeenExamples::Verdict SeenExamples::add(const Example& example) {
  const Verdict verdict = find(example);
  hashes_[hash_of(example.ids, example.ids.size())] |= kWhole;
  if (const size_t prompt = prompt_tokens(example); prompt > 0)
    hashes_[hash_of(example.ids, prompt)] |= kPrompt;
  return verdict;
}

LoadedSource ExampleLoader::load(const std::string& path, int64_t hold_out,
                                 std::vector<Example>* held_out) {
  LoadedSource source{{}, ExampleStore(spill_folder_)};
  SourceSummary& summary = source.summary;
  summary.path = path;
  int64_t n = 0;
  const RecordCounts records = read_records(
      path,
      [&](const Record& record) {
        maker_.make(record, summary.counts, [&](Example example) {
          if (held_out && hold_out > 0 && ++n % hold_out == 0 && !seen_.find(example).same) {
            held_out->push_back(std::move(example));
            return;
          }
          if (seen_.add(example).same) ++summary.n_duplicates;
          source.examples.add(example);
        });
      },
      events_);
  summary.hash = records.hash;
  events_.note(records.describe());
  // What came again after it was held out is no measure of anything.
  if (held_out)
    std::erase_if(*held_out, [&](const Example& example) { return seen_.find(example).same; });
  const ExampleCounts& c = summary.counts;
  if (source.examples.size() == 0)
    fail(ErrorCode::kBadData,
         "{}: none of {} examples has anything to learn within the context; use a larger --context",
         path, records.total());
  if (c.n_cut + c.n_dropped + c.n_windows > 0)
    events_.note(fmt::format(
        "{}: beyond the context, {} cut at the end, {} left out, {} further pieces of long texts",
        path, c.n_cut, c.n_dropped, c.n_windows));
  if (c.n_unrolled > 0)
    events_.note(fmt::format(
        "{}: the template renders {} conversations differently once they go on; each of their "
        "answers became an example of its own",
        path, c.n_unrolled));
  if (summary.n_duplicates > 0)
    events_.note(fmt::format("{}: {} of {} examples are duplicates of earlier ones", path,
                             summary.n_duplicates, c.n_examples));
  if (source.examples.on_disk())
    events_.note(fmt::format("{}: too large for memory, examples are kept on disk", path));
  return source;
}

std::vector<Example> ExampleLoader::load_held_out(const std::string& path) {
  std::vector<Example> examples;
  ExampleCounts counts;
  int64_t n_same = 0, n_same_prompt = 0;
  const RecordCounts records = read_records(path, [&](const Record& record) {
    maker_.make(record, counts, [&](Example example) {
      const SeenExamples::Verdict verdict = seen_.find(example);
      n_same += verdict.same;
      n_same_prompt += verdict.same_prompt && !verdict.same;
      examples.push_back(std::move(example));
    });
  });
  events_.note(records.describe());
  if (examples.empty())
    fail(ErrorCode::kBadData, "{}: none of {} examples has anything to measure within the context",
         path, records.total());
  if (n_same + n_same_prompt > 0)
    events_.note(fmt::format(
        "{}: {} of {} held-out examples are in the training data, {} more share their prompt with "
        "one; what is measured on them says little",
        path, n_same, examples.size(), n_same_prompt));
  return examples;
}

std::vector<TokenRow> rows_of(const PlannedStep& step,
                              const std::vector<const ExampleStore*>& stores,
                              const ExampleUse& use) {
  std::vector<TokenRow> rows;
  for (const PlannedRow& planned : step.rows) {
    TokenRow& row = rows.emplace_back();
    for (const PlannedExample& p : planned) {
      const bool general = p.source > 0;
      append(row, stores[static_cast<size_t>(p.source)]->read(p.index), p.n_tokens,
             general ? use.general : use.domain, !general || use.learn_general);
    }
  }
  return rows;
}

std::vector<TokenRow> rows_of(const std::vector<Example>& examples, Keep keep) {
  std::vector<TokenRow> rows;
  for (const Example& example : examples)
    append(rows.emplace_back(), example, static_cast<int64_t>(example.ids.size()), keep,
           /*learn=*/true);
  return rows;
}

}  // namespace lapidary
