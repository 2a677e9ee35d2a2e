// Normalizer, pre-tokenizer, decoder and post-processor of a tokenizer.json, flattened.
//
// The shapes follow the serialization of the `tokenizers` library (version "1.0" files). What the
// supported families do not use is refused by name rather than guessed.
#include "formats/tokenizer_components.h"

#include <nlohmann/json.hpp>

#include "formats/error.h"
#include "formats/split_regex.h"

namespace lapidary {
namespace {

using nlohmann::json;

// The pattern that GPT-2's byte-level pre-tokenizer applies where `use_regex` is on.
constexpr const char* kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
// Nested Sequences deeper than this are hostile, not useful.
constexpr int kMaxNesting = 16;

template <class T>
T field(const json& object, const char* name, const char* where) {
  const auto found = object.find(name);
  if (found == object.end()) fail(ErrorCode::kBadData, "{}: '{}' is missing", where, name);
  try {
    return found->get<T>();
  } catch (const json::exception&) {
    fail(ErrorCode::kBadData, "{}: '{}' is a {}, of the wrong type", where, name,
         found->type_name());
  }
}

std::string type_of(const json& component, const char* where) {
  if (!component.is_object())
    fail(ErrorCode::kBadData, "{}: expected an object, found a {}", where, component.type_name());
  return field<std::string>(component, "type", where);
}

[[noreturn]] void unsupported(const char* where, const std::string& what) {
  fail(ErrorCode::kBadData,
       "{} '{}' is not supported (supported: what Gemma, Llama 3 and Qwen use)", where, what);
}

// Calls `visit` on each component that is no Sequence, in order; null is an empty sequence.
template <class Visit>
void for_each_component(const json& component, const char* where, const char* list_name,
                        const Visit& visit, int depth = 0) {
  if (component.is_null()) return;
  if (depth > kMaxNesting)
    fail(ErrorCode::kBadData, "{}: Sequences nest deeper than {}", where, kMaxNesting);
  if (type_of(component, where) != "Sequence") return visit(component);
  const json list = field<json>(component, list_name, where);
  if (!list.is_array()) fail(ErrorCode::kBadData, "{}: '{}' is no array", where, list_name);
  for (const json& part : list) for_each_component(part, where, list_name, visit, depth + 1);
}

struct Pattern {
  std::string text;
  bool is_regex;
};

Pattern read_pattern(const json& component, const char* where) {
  const json pattern = field<json>(component, "pattern", where);
  if (pattern.is_object() && pattern.contains("String"))
    return {field<std::string>(pattern, "String", where), false};
  if (pattern.is_object() && pattern.contains("Regex")) {
    std::string text = field<std::string>(pattern, "Regex", where);
    with_context("pre_tokenizer", [&] { SplitRegex check(text); });
    return {std::move(text), true};
  }
  unsupported(where, "pattern " + pattern.dump(-1, ' ', false, json::error_handler_t::replace));
}

void add_normalizer(const json& component, std::vector<ComponentStep>& steps) {
  static constexpr const char* kWhere = "normalizer";
  const std::string type = type_of(component, kWhere);
  if (type == "Replace") {
    auto [text, is_regex] = read_pattern(component, kWhere);
    steps.push_back({is_regex ? StepKind::kReplaceRegex : StepKind::kReplaceString, 0,
                     std::move(text), field<std::string>(component, "content", kWhere)});
  } else if (type == "Prepend") {
    steps.push_back({StepKind::kPrepend, 0, {}, field<std::string>(component, "prepend", kWhere)});
  } else if (type == "Strip") {
    const uint32_t left = field<bool>(component, "strip_left", kWhere) ? kStripLeft : 0;
    const uint32_t right = field<bool>(component, "strip_right", kWhere) ? kStripRight : 0;
    steps.push_back({StepKind::kStripSpaces, left | right, {}, {}});
  } else if (type == "NFC") {
    steps.push_back({StepKind::kNfc, 0, {}, {}});
  } else if (type == "NFD") {
    steps.push_back({StepKind::kNfd, 0, {}, {}});
  } else if (type == "NFKC") {
    steps.push_back({StepKind::kNfkc, 0, {}, {}});
  } else if (type == "NFKD") {
    steps.push_back({StepKind::kNfkd, 0, {}, {}});
  } else if (type == "Lowercase") {
    steps.push_back({StepKind::kLowercase, 0, {}, {}});
  } else {
    unsupported(kWhere, type);
  }
}

uint32_t read_behavior(const json& component, const char* where) {
  const std::string name = field<std::string>(component, "behavior", where);
  static constexpr std::pair<const char*, SplitBehavior> kNames[] = {
      {"Isolated", SplitBehavior::kIsolated},
      {"Removed", SplitBehavior::kRemoved},
      {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      {"MergedWithNext", SplitBehavior::kMergedWithNext},
      {"Contiguous", SplitBehavior::kContiguous}};
  for (const auto& [known, behavior] : kNames)
    if (name == known) return static_cast<uint32_t>(behavior);
  unsupported(where, "behavior " + name);
}

void add_pre_tokenizer(const json& component, std::vector<ComponentStep>& steps) {
  static constexpr const char* kWhere = "pre_tokenizer";
  const std::string type = type_of(component, kWhere);
  if (!steps.empty() && steps.back().kind == StepKind::kByteLevel)
    unsupported(kWhere, type + " after ByteLevel");
  if (type == "Split") {
    auto [text, is_regex] = read_pattern(component, kWhere);
    const uint32_t invert = field<bool>(component, "invert", kWhere) ? kInvert : 0;
    steps.push_back({is_regex ? StepKind::kSplitRegex : StepKind::kSplitString,
                     read_behavior(component, kWhere) | invert,
                     std::move(text),
                     {}});
  } else if (type == "Digits") {
    const bool individual = field<bool>(component, "individual_digits", kWhere);
    const auto behavior = individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous;
    steps.push_back({StepKind::kSplitRegex, static_cast<uint32_t>(behavior), R"(\p{N})", {}});
  } else if (type == "ByteLevel") {
    if (field<bool>(component, "add_prefix_space", kWhere))
      steps.push_back({StepKind::kPrefixSpace, 0, {}, {}});
    // Files older than the switch mean that it is on.
    if (!component.contains("use_regex") || field<bool>(component, "use_regex", kWhere))
      steps.push_back({StepKind::kSplitRegex,
                       static_cast<uint32_t>(SplitBehavior::kIsolated),
                       kGpt2Pattern,
                       {}});
    steps.push_back({StepKind::kByteLevel, 0, {}, {}});
  } else {
    unsupported(kWhere, type);
  }
}

// `first`: where the decoders begin in `steps`.
void add_decoder(const json& component, size_t first, std::vector<ComponentStep>& steps) {
  static constexpr const char* kWhere = "decoder";
  const std::string type = type_of(component, kWhere);
  const StepKind last = steps.size() > first ? steps.back().kind : StepKind::kDecodeReplace;
  const bool fused = last == StepKind::kDecodeFuse;
  // The decoder streams: before Fuse it sees single tokens, after it only the start of the text.
  if (last == StepKind::kDecodeByteLevel || last == StepKind::kDecodeStripStart ||
      (fused && type != "Strip"))
    unsupported(kWhere, type + " after the tokens are joined");
  if (type == "Replace") {
    auto [text, is_regex] = read_pattern(component, kWhere);
    if (is_regex || last != StepKind::kDecodeReplace)
      unsupported(kWhere, is_regex ? "Replace with a regex" : "Replace after " + type);
    steps.push_back({StepKind::kDecodeReplace, 0, std::move(text),
                     field<std::string>(component, "content", kWhere)});
  } else if (type == "ByteFallback") {
    if (last != StepKind::kDecodeReplace) unsupported(kWhere, "ByteFallback twice");
    steps.push_back({StepKind::kDecodeByteFallback, 0, {}, {}});
  } else if (type == "Fuse") {
    steps.push_back({StepKind::kDecodeFuse, 0, {}, {}});
  } else if (type == "Strip") {
    const auto start = field<uint32_t>(component, "start", kWhere);
    if (!fused || field<uint32_t>(component, "stop", kWhere) != 0 || start > 16)
      unsupported(kWhere, "Strip other than of a few characters at the start, after Fuse");
    steps.push_back(
        {StepKind::kDecodeStripStart, start, field<std::string>(component, "content", kWhere), {}});
  } else if (type == "ByteLevel") {
    if (steps.size() != first) unsupported(kWhere, "ByteLevel after another decoder");
    steps.push_back({StepKind::kDecodeByteLevel, 0, {}, {}});
  } else {
    unsupported(kWhere, type);
  }
}

void read_template(const json& component, TokenizerComponents& out) {
  static constexpr const char* kWhere = "post_processor";
  if (!out.before_ids.empty() || !out.after_ids.empty())
    unsupported(kWhere, "two TemplateProcessing");
  const json single = field<json>(component, "single", kWhere);
  const json special = field<json>(component, "special_tokens", kWhere);
  if (!single.is_array() || !special.is_object())
    fail(ErrorCode::kBadData, "post_processor: malformed TemplateProcessing");
  bool text_seen = false;
  for (const json& part : single) {
    if (part.is_object() && part.contains("Sequence")) {
      if (text_seen || field<std::string>(part["Sequence"], "id", kWhere) != "A")
        unsupported(kWhere, "a template for one text with other than one 'A'");
      text_seen = true;
    } else if (part.is_object() && part.contains("SpecialToken")) {
      const auto name = field<std::string>(part["SpecialToken"], "id", kWhere);
      const json token = field<json>(special, name.c_str(), kWhere);
      const auto ids = field<std::vector<uint32_t>>(token, "ids", kWhere);
      auto& side = text_seen ? out.after_ids : out.before_ids;
      side.insert(side.end(), ids.begin(), ids.end());
    } else {
      unsupported(kWhere, "template part " + part.dump(-1, ' ', true));
    }
  }
  if (!text_seen) unsupported(kWhere, "a template without the text");
}

}  // namespace

TokenizerComponents compile_components(std::string_view text) {
  const json root = json::parse(text, nullptr, false);
  if (!root.is_object()) fail(ErrorCode::kBadData, "expected an object with its components");
  TokenizerComponents out;
  for_each_component(root.value("normalizer", json()), "normalizer", "normalizers",
                     [&](const json& part) { add_normalizer(part, out.steps); });
  for_each_component(root.value("pre_tokenizer", json()), "pre_tokenizer", "pretokenizers",
                     [&](const json& part) { add_pre_tokenizer(part, out.steps); });
  const size_t first_decoder = out.steps.size();
  for_each_component(root.value("decoder", json()), "decoder", "decoders",
                     [&](const json& part) { add_decoder(part, first_decoder, out.steps); });
  if (out.steps.size() == first_decoder) unsupported("decoder", "null");
  for_each_component(root.value("post_processor", json()), "post_processor", "processors",
                     [&](const json& part) {
                       const std::string type = type_of(part, "post_processor");
                       if (type == "TemplateProcessing") return read_template(part, out);
                       // ByteLevel trims offsets, which nobody here reads; ids stay as they are.
                       if (type != "ByteLevel") unsupported("post_processor", type);
                     });
  return out;
}

}  // namespace lapidary
