// Splits, interleaves and renders; the words themselves are compiled in by CMake.
#include "quantize/calibration_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "formats/error.h"
#include "formats/json_guard.h"
#include "quantize/calibration_parts.h"
#include "runtime/text/chat_template.h"

namespace lapidary {
namespace {

using nlohmann::ordered_json;

constexpr std::string_view kDivider = "\n=====\n";
constexpr size_t kMaxLineBytes = size_t{4} << 20;

std::vector<std::string_view> split(std::string_view text, std::string_view divider) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const size_t end = std::min(text.find(divider), text.size());
    if (end > 0) parts.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + divider.size(), text.size()));
  }
  return parts;
}

// Messages as a model without a template would read them in a log.
std::string plain_conversation(const ordered_json& chat) {
  std::string text;
  for (const ordered_json& message : chat["messages"]) {
    text += message.value("role", "user") + ": ";
    if (message.contains("content") && message["content"].is_string())
      text += message["content"].get<std::string>();
    if (message.contains("tool_calls")) text += message["tool_calls"].dump();
    text += '\n';
  }
  return text;
}

// The model's template with what it needs to know, or nothing where there is none.
class Renderer {
 public:
  Renderer(const Tokenizer& tokenizer, const ModelMetadata& metadata) {
    if (metadata.chat_template.empty()) return;
    template_.emplace(metadata.chat_template);
    bos_ = piece(tokenizer, metadata.config.bos_id);
    const auto& ends = metadata.config.eos_ids;
    eos_ = piece(tokenizer, ends.empty() ? -1 : ends.front());
  }

  std::string operator()(const ordered_json& chat) const {
    if (!template_) return plain_conversation(chat);
    ChatRequest request;
    request.messages_json = chat["messages"].dump();
    if (chat.contains("tools")) request.tools_json = chat["tools"].dump();
    request.add_generation_prompt = false;
    try {
      std::string text = template_->render(request, bos_, eos_);
      // Windows bring their own BOS.
      if (!bos_.empty() && text.starts_with(bos_)) text.erase(0, bos_.size());
      return text;
    } catch (const Error&) {
      return plain_conversation(chat);
    }
  }

 private:
  static std::string piece(const Tokenizer& tokenizer, int32_t id) {
    return id < 0 ? std::string() : std::string(tokenizer.piece(id));
  }

  std::optional<ChatTemplate> template_;
  std::string bos_, eos_;
};

bool is_conversation(const ordered_json& line) {
  if (!line.is_object() || !line.contains("messages") || !line["messages"].is_array()) return false;
  return std::all_of(line["messages"].begin(), line["messages"].end(), [](const ordered_json& m) {
    return m.is_object() && m.contains("role") && m["role"].is_string();
  });
}

void append(std::vector<int32_t>& ids, const std::vector<int32_t>& more) {
  ids.insert(ids.end(), more.begin(), more.end());
}

std::vector<int32_t> conversations(const Tokenizer& tokenizer, const ModelMetadata& metadata,
                                   std::string_view text) {
  const Renderer render(tokenizer, metadata);
  std::vector<int32_t> ids;
  size_t number = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    if (line.size() > kMaxLineBytes)
      fail(ErrorCode::kBadData, "calibration text, line {}: {} bytes, the limit is {}", number,
           line.size(), kMaxLineBytes);
    guard_json(line, fmt::format("calibration text, line {}", number));
    const ordered_json chat = ordered_json::parse(line);
    if (!is_conversation(chat))
      fail(ErrorCode::kBadData,
           "calibration text, line {}: expected {{\"messages\": [{{\"role\", \"content\"}}, ...]}} "
           "on every line, as on the first",
           number);
    append(ids, tokenizer.encode(render(chat)));
  }
  return ids;
}

}  // namespace

std::vector<CalibrationDocument> builtin_calibration_documents() {
  struct Placed {
    double at;  // where in its part, 0 to 1
    CalibrationDocument document;
  };
  std::vector<Placed> placed;
  const auto add = [&placed](const std::vector<std::string_view>& parts, bool chat) {
    for (size_t i = 0; i < parts.size(); ++i)
      placed.push_back(
          {(static_cast<double>(i) + 0.5) / static_cast<double>(parts.size()), {parts[i], chat}});
  };
  for (const std::string_view part : {calibration_parts::prose(), calibration_parts::code(),
                                      calibration_parts::data(), calibration_parts::languages()})
    add(split(part, kDivider), false);
  add(split(calibration_parts::chats(), "\n"), true);
  std::stable_sort(placed.begin(), placed.end(),
                   [](const Placed& a, const Placed& b) { return a.at < b.at; });
  std::vector<CalibrationDocument> documents;
  for (const Placed& p : placed) documents.push_back(p.document);
  return documents;
}

std::vector<int32_t> builtin_calibration_tokens(const Tokenizer& tokenizer,
                                                const ModelMetadata& metadata) {
  const Renderer render(tokenizer, metadata);
  std::vector<int32_t> ids;
  for (const CalibrationDocument& document : builtin_calibration_documents()) {
    if (document.chat)
      append(ids, tokenizer.encode(render(ordered_json::parse(document.text))));
    else
      append(ids, tokenizer.encode(std::string(document.text) + "\n\n"));
  }
  return ids;
}

std::vector<int32_t> calibration_tokens(const Tokenizer& tokenizer, const ModelMetadata& metadata,
                                        std::string_view text) {
  const std::string_view first_line = text.substr(0, text.find('\n'));
  const bool chats = first_line.starts_with('{') && first_line.size() <= kMaxLineBytes &&
                     is_conversation(ordered_json::parse(first_line, nullptr, false));
  std::vector<int32_t> ids =
      chats ? conversations(tokenizer, metadata, text) : tokenizer.encode(text);
  if (ids.size() < 2)
    fail(ErrorCode::kBadData, "the calibration text has {} tokens, expected at least 2",
         ids.size());
  return ids;
}

}  // namespace lapidary
