// Chat templates: the Jinja subset that released templates use, rendered as transformers does
// (trim_blocks and lstrip_blocks on, ensure_ascii off in tojson).
//
// Messages and tools come as JSON text in OpenAI's form. The template is untrusted: depth, steps
// and output are limited. Throws Error(kBadData) with line and column.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace lapidary {

struct ChatRequest {
  std::string messages_json;  // array of {role, content, tool_calls?, ...}
  std::string tools_json;     // array or empty
  bool add_generation_prompt = true;
  std::string extra_json;  // object with further variables (enable_thinking, ...), or empty
};

class ChatTemplate {
 public:
  explicit ChatTemplate(std::string_view source);  // parses
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  // `bos_token`, `eos_token`: their text, given to the template as variables.
  std::string render(const ChatRequest& request, std::string_view bos_token,
                     std::string_view eos_token) const;
  // Renders with a bare JSON object as the only context.
  std::string render_context(std::string_view context_json) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lapidary
