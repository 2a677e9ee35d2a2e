// A tokenizer of any size that encodes every text: what a synthetic model carries, so that opening
// it costs what opening a real one costs.
#include <nlohmann/json.hpp>

#include "convert/synthetic.h"
#include "formats/error.h"

namespace lapidary {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kSpace = "\u2581";

// All words over the letters, shortest first, cut to `count`: each is an earlier word and a letter.
std::vector<std::vector<int>> words(size_t count, int n_letters) {
  std::vector<std::vector<int>> words;
  for (int letter = 0; letter < n_letters; ++letter) words.push_back({letter});
  for (size_t i = 0; words.size() < count; ++i)
    for (int letter = 0; letter < n_letters && words.size() < count; ++letter) {
      words.push_back(words[i]);
      words.back().push_back(letter);
    }
  return words;
}

std::string text_of(std::span<const int> word, const std::vector<std::string>& letters) {
  std::string text;
  for (const int letter : word) text += letters[static_cast<size_t>(letter)];
  return text;
}

}  // namespace

std::string synthetic_tokenizer(int vocab_size) {
  LAPIDARY_CHECK(vocab_size >= 320);
  std::vector<std::string> letters{kSpace};
  for (char c = 'a'; c <= 'z'; ++c) letters.emplace_back(1, c);

  nlohmann::json vocab = nlohmann::json::object();  // look-ups of ordered_json are linear
  Json added = Json::array(), merges = Json::array();
  int id = 0;
  for (const char* special : {"<pad>", "<eos>", "<bos>", "<unk>"}) {
    added.push_back({{"id", id},
                     {"content", special},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
    vocab[special] = id++;
  }
  for (int byte = 0; byte < 256; ++byte) vocab[fmt::format("<0x{:02X}>", byte)] = id++;
  for (const std::vector<int>& word :
       words(static_cast<size_t>(vocab_size - id), static_cast<int>(letters.size()))) {
    const std::span<const int> all(word);
    vocab[text_of(all, letters)] = id++;
    const auto merge = [&](size_t cut) {
      merges.push_back({text_of(all.first(cut), letters), text_of(all.subspan(cut), letters)});
    };
    if (word.size() > 1) merge(word.size() - 1);
    if (word.size() > 2) merge(1);
  }

  Json json{{"version", "1.0"}, {"added_tokens", added}};
  json["normalizer"] = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kSpace}};
  json["pre_tokenizer"] = {{"type", "Split"},
                           {"pattern", {{"String", " "}}},
                           {"behavior", "MergedWithPrevious"},
                           {"invert", false}};
  json["post_processor"]["type"] = "TemplateProcessing";
  json["post_processor"]["single"].push_back({{"SpecialToken", {{"id", "<bos>"}, {"type_id", 0}}}});
  json["post_processor"]["single"].push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  json["post_processor"]["special_tokens"]["<bos>"] = {
      {"id", "<bos>"}, {"ids", Json::array({2})}, {"tokens", Json::array({"<bos>"})}};
  json["decoder"]["type"] = "Sequence";
  json["decoder"]["decoders"].push_back(
      {{"type", "Replace"}, {"pattern", {{"String", kSpace}}}, {"content", " "}});
  json["decoder"]["decoders"].push_back({{"type", "ByteFallback"}});
  json["decoder"]["decoders"].push_back({{"type", "Fuse"}});
  json["model"] = {
      {"type", "BPE"}, {"unk_token", "<unk>"}, {"fuse_unk", true}, {"byte_fallback", true}};
  json["model"]["vocab"] = std::move(vocab);
  json["model"]["merges"] = std::move(merges);
  return json.dump();
}

}  // namespace lapidary
