// The variables that transformers gives a template, and the door to the interpreter.
#include "runtime/text/chat_template.h"

#include "formats/error.h"
#include "formats/utf8.h"
#include "runtime/text/jinja_eval.h"
#include "runtime/text/jinja_parser.h"

namespace lapidary {
namespace {

// The longest released template has 20 kB.
constexpr size_t kMaxTemplateBytes = 1 << 20;

void check_object(const jinja::Value& v, const char* where) {
  if (!v.dict())
    fail(ErrorCode::kBadData, "{}: expected a JSON object, found '{}'", where, jinja::type_name(v));
}

}  // namespace

struct ChatTemplate::State {
  jinja::Body body;
};

ChatTemplate::ChatTemplate(std::string_view source) : state_(std::make_unique<State>()) {
  if (source.size() > kMaxTemplateBytes)
    fail(ErrorCode::kBadData, "chat template: {} bytes, the limit is {}", source.size(),
         kMaxTemplateBytes);
  if (!is_valid_utf8(source)) fail(ErrorCode::kBadData, "chat template: not UTF-8");
  state_->body = jinja::parse(source);
}

ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

std::string ChatTemplate::render(const ChatRequest& request, std::string_view bos_token,
                                 std::string_view eos_token) const {
  using jinja::Value;
  jinja::Dict context;
  const Value messages = jinja::from_json(request.messages_json, "messages");
  if (!messages.list())
    fail(ErrorCode::kBadData, "messages: expected a JSON array, found '{}'",
         jinja::type_name(messages));
  context.set("messages", messages);
  Value tools = jinja::None{};
  if (!request.tools_json.empty()) tools = jinja::from_json(request.tools_json, "tools");
  if (!tools.list() && !tools.is_none())
    fail(ErrorCode::kBadData, "tools: expected a JSON array, found '{}'", jinja::type_name(tools));
  context.set("tools", tools);
  context.set("documents", jinja::None{});
  context.set("add_generation_prompt", request.add_generation_prompt);
  context.set("bos_token", bos_token);
  context.set("eos_token", eos_token);
  if (!request.extra_json.empty()) {
    const Value extra = jinja::from_json(request.extra_json, "template variables");
    check_object(extra, "template variables");
    for (const auto& [name, value] : extra.dict()->items()) context.set(name, value);
  }
  return jinja::render(state_->body, jinja::make_dict(std::move(context)));
}

std::string ChatTemplate::render_context(std::string_view context_json) const {
  const jinja::Value context = jinja::from_json(context_json, "template variables");
  check_object(context, "template variables");
  return jinja::render(state_->body, context);
}

}  // namespace lapidary
