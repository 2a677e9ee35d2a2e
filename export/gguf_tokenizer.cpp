// Tokens, types, merges and special ids for llama.cpp.
#include "export/gguf_tokenizer.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>

#include "formats/error.h"
#include "formats/gguf_vocabulary.h"
#include "formats/json_guard.h"
#include "formats/tokenizer_components.h"

namespace lapidary {
namespace {

using Json = nlohmann::json;

std::string pattern_name(const std::vector<ComponentStep>& steps) {
  for (const ComponentStep& step : steps)
    if (step.kind == StepKind::kSplitRegex)
      for (const GgufPattern& known : gguf_patterns())
        if (step.text == known.pattern) return std::string(known.name);
  fail(ErrorCode::kBadData, "llama.cpp has no name for this tokenizer's split pattern");
}

struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<int32_t> types;

  Vocabulary(const Json& tokenizer, int vocab_size)
      : tokens(static_cast<size_t>(vocab_size)), types(tokens.size(), kUnusedToken) {
    const bool byte_fallback = tokenizer.at("model").value("byte_fallback", false);
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = fmt::format("[PAD{}]", i);
    for (const auto& [text, id] : tokenizer.at("model").at("vocab").items())
      set(id, text, byte_fallback && is_byte_token(text) ? kByteToken : kNormalToken);
    for (const Json& added : tokenizer.value("added_tokens", Json::array())) {
      const std::string text = added.at("content");
      const bool control = added.value("special", false) && !is_visible_marker(text);
      set(added.at("id"), text, control ? kControlToken : kUserDefinedToken);
    }
  }

 private:
  void set(const Json& id, const std::string& text, GgufTokenType type) {
    const size_t at = id.get<size_t>();
    if (at >= tokens.size())
      fail(ErrorCode::kBadData, "token {} has id {}, the model has {} tokens", excerpt(text), at,
           tokens.size());
    tokens[at] = text;
    types[at] = type;
  }
};

std::vector<std::string> merges_of(const Json& model) {
  std::vector<std::string> merges;
  for (const Json& merge : model.at("merges"))
    merges.push_back(merge.is_string()
                         ? merge.get<std::string>()
                         : merge.at(0).get<std::string>() + " " + merge.at(1).get<std::string>());
  return merges;
}

void add_special_ids(const ModelConfig& config, const Json& model, const Vocabulary& vocabulary,
                     std::vector<GgufPair>* pairs) {
  const auto add = [&](const char* key, int64_t id) {
    if (id >= 0)
      pairs->push_back({std::string("tokenizer.ggml.") + key, static_cast<uint32_t>(id)});
  };
  add("bos_token_id", config.bos_id);
  add("padding_token_id", config.pad_id);
  // Generation stops after any of them: the end of the text, of the turn, of the message.
  const char* const stops[] = {"eos_token_id", "eot_token_id", "eom_token_id"};
  for (size_t i = 0; i < std::min<size_t>(config.eos_ids.size(), 3); ++i)
    add(stops[i], config.eos_ids[i]);
  const auto unknown = model.find("unk_token");
  if (unknown == model.end() || !unknown->is_string()) return;
  for (size_t i = 0; i < vocabulary.tokens.size(); ++i)
    if (vocabulary.tokens[i] == *unknown) return add("unknown_token_id", static_cast<int64_t>(i));
}

std::vector<GgufPair> read(const std::string& tokenizer_json, const ModelConfig& config) {
  const Json tokenizer = Json::parse(tokenizer_json);
  const Json& model = tokenizer.at("model");
  if (model.value("type", "BPE") != "BPE")
    fail(ErrorCode::kBadData, "a {} tokenizer, BPE expected", model.at("type").dump());
  const Json parts{{"normalizer", tokenizer.value("normalizer", Json())},
                   {"pre_tokenizer", tokenizer.value("pre_tokenizer", Json())},
                   {"decoder", tokenizer.value("decoder", Json())},
                   {"post_processor", tokenizer.value("post_processor", Json())}};
  const TokenizerComponents components = compile_components(parts.dump());
  Vocabulary vocabulary(tokenizer, config.vocab_size);

  std::vector<GgufPair> pairs;
  if (model.value("byte_fallback", false)) {
    pairs.push_back({"tokenizer.ggml.model", std::string("gemma4")});
    // Unused by BPE, but every reader of this kind asks for scores.
    pairs.push_back(
        {"tokenizer.ggml.scores", std::vector<float>(vocabulary.tokens.size(), -1000.0f)});
  } else {
    pairs.push_back({"tokenizer.ggml.model", std::string("gpt2")});
    pairs.push_back({"tokenizer.ggml.pre", pattern_name(components.steps)});
  }
  add_special_ids(config, model, vocabulary, &pairs);
  pairs.push_back({"tokenizer.ggml.add_bos_token", !components.before_ids.empty()});
  pairs.push_back({"tokenizer.ggml.add_eos_token", !components.after_ids.empty()});
  pairs.push_back({"tokenizer.ggml.add_space_prefix", false});
  pairs.push_back({"tokenizer.ggml.tokens", std::move(vocabulary.tokens)});
  pairs.push_back({"tokenizer.ggml.token_type", std::move(vocabulary.types)});
  pairs.push_back({"tokenizer.ggml.merges", merges_of(model)});
  return pairs;
}

}  // namespace

std::vector<GgufPair> gguf_tokenizer(const std::string& tokenizer_json, const ModelConfig& config) {
  if (tokenizer_json.empty()) return {{"tokenizer.ggml.model", std::string("no_vocab")}};
  try {
    return read(tokenizer_json, config);
  } catch (const Json::exception& e) {
    fail(ErrorCode::kBadData, "tokenizer.json: {}", e.what());
  }
}

}  // namespace lapidary
