// One function per task. Prompts end with the question; answers are short and unique.
#include "runtime/verify/builtin_tasks.h"

#include <algorithm>
#include <set>
#include <string>
#include <tuple>

#include "formats/error.h"
#include "runtime/verify/builtin_text.h"
#include "runtime/verify/builtin_words.h"

namespace lapidary {
namespace {

TaskItem make_item(std::string task, std::string user, std::string answer) {
  TaskItem item;
  item.task = std::move(task);
  item.user = std::move(user);
  item.answer = std::move(answer);
  return item;
}

TaskItem make_arithmetic(SplitMix64& random) {
  const int64_t a = random.between(10, 999), b = random.between(10, 999);
  switch (random.below(3)) {
    case 0:
      return make_item("arithmetic", fmt::format("What is {} + {}?", a, b),
                       fmt::format("{}", a + b));
    case 1:
      return make_item("arithmetic",
                       fmt::format("What is {} - {}?", std::max(a, b), std::min(a, b)),
                       fmt::format("{}", std::max(a, b) - std::min(a, b)));
    default: {
      const int64_t factor = random.between(2, 9);
      return make_item("arithmetic", fmt::format("What is {} * {}?", a, factor),
                       fmt::format("{}", a * factor));
    }
  }
}

std::string join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

TaskItem make_sort(SplitMix64& random) {
  const size_t n = static_cast<size_t>(random.between(3, 5));
  std::vector<std::string> words;
  while (words.size() < n) {
    const std::string word(pick(random, kNouns));
    if (std::find(words.begin(), words.end(), word) == words.end()) words.push_back(word);
  }
  const std::string question = "Sort these words alphabetically: " + join(words);
  std::sort(words.begin(), words.end());
  return make_item("sort", question, join(words));
}

TaskItem make_largest(SplitMix64& random) {
  std::set<int64_t> seen;
  std::vector<std::string> numbers;
  const size_t n = static_cast<size_t>(random.between(3, 6));
  while (numbers.size() < n) {
    const int64_t number = random.between(10, 999);
    if (seen.insert(number).second) numbers.push_back(std::to_string(number));
  }
  return make_item("largest", "Which number is the largest: " + join(numbers) + "?",
                   std::to_string(*seen.rbegin()));
}

TaskItem make_extract(SplitMix64& random) {
  const std::string name =
      fmt::format("{} {}", pick(random, kFirstNames), pick(random, kLastNames));
  const std::string_view city = pick(random, kCities);
  const int64_t age = random.between(18, 90);
  std::string sentence;
  switch (random.below(3)) {
    case 0:
      sentence = fmt::format("{} is {} years old and lives in {}.", name, age, city);
      break;
    case 1:
      sentence = fmt::format("At {}, {} moved to {}.", age, name, city);
      break;
    default:
      sentence = fmt::format("{} has been home to {}, aged {}, for years.", city, name, age);
  }
  return make_item(
      "extract", "Give the name, age and city in this text as JSON.\n" + sentence,
      fmt::format("{{\"name\": \"{}\", \"age\": {}, \"city\": \"{}\"}}", name, age, city));
}

// A passage of the built-in text of about `n_bytes`, from one line break or space to another.
std::string haystack(SplitMix64& random, int64_t n_bytes) {
  const std::string_view text = builtin_text();
  const size_t length = std::min(static_cast<size_t>(n_bytes), text.size());
  size_t start = random.below(text.size() - length + 1);
  start = start == 0 ? 0 : std::min(text.find_first_of(" \n", start), text.size() - 1) + 1;
  size_t end = std::min(start + length, text.size());
  if (end < text.size()) end = text.find_last_of(" \n", end);
  return end > start && end != std::string_view::npos ? std::string(text.substr(start, end - start))
                                                      : std::string();
}

// One true key and one distractor, at random depths.
TaskItem make_needle(SplitMix64& random, int64_t n_bytes) {
  const std::string_view wanted = pick(random, kNouns);
  std::string_view other = wanted;
  while (other == wanted) other = pick(random, kNouns);
  const int64_t key = random.between(10000, 99999), other_key = random.between(10000, 99999);
  std::string passages[3];
  const int64_t first = n_bytes * random.between(0, 80) / 100, second = (n_bytes - first) / 2;
  const int64_t sizes[3] = {first, second, n_bytes - first - second};
  for (int i = 0; i < 3; ++i)
    if (sizes[i] > 0) passages[i] = haystack(random, sizes[i]) + "\n\n";
  std::string lines[2] = {
      fmt::format("The pass key for {} is {}. Remember it.\n\n", wanted, key),
      fmt::format("The pass key for {} is {}. Remember it.\n\n", other, other_key)};
  if (random.below(2) == 1) std::swap(lines[0], lines[1]);
  return make_item("needle",
                   passages[0] + lines[0] + passages[1] + lines[1] + passages[2] +
                       fmt::format("What is the pass key for {}?", wanted),
                   std::to_string(key));
}

}  // namespace

ToolGrammar tool_grammar_of(const Tokenizer& tokenizer) {
  return tokenizer.id_of("<|tool_call>") && tokenizer.id_of("<|tool>") ? ToolGrammar::kGemma
                                                                       : ToolGrammar::kJson;
}

std::vector<TaskItem> builtin_tasks(const BuiltinTaskOptions& options) {
  if (options.per_task < 1 || options.per_task > 10'000)
    fail(ErrorCode::kUsage, "{} built-in items per task: expected 1 to 10,000", options.per_task);
  if (options.needle_characters < 0 || options.needle_characters > 100'000)
    fail(ErrorCode::kUsage, "a haystack of {} characters: expected 0 (no needle task) to 100,000",
         options.needle_characters);
  std::vector<TaskItem> items;
  std::set<std::tuple<std::string, std::string>> seen;
  uint64_t stream = options.seed;
  const auto fill = [&](auto make) {
    SplitMix64 random(SplitMix64(++stream).next());  // tasks do not disturb each other's items
    for (int64_t i = 0; i < options.per_task;) {
      TaskItem item = make(random);
      if (!seen.emplace(item.system, item.user).second) continue;
      items.push_back(std::move(item));
      ++i;
    }
  };
  fill(make_arithmetic);
  fill(make_sort);
  fill(make_largest);
  fill(make_extract);
  fill([&](SplitMix64& random) { return make_tool_item(random, options.tools); });
  if (options.needle_characters > 0)
    fill([&](SplitMix64& random) { return make_needle(random, options.needle_characters); });
  return items;
}

}  // namespace lapidary
