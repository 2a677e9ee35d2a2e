// History as JSON messages in, tokens out; see the header for the reuse of the cache.
#include "runtime/chat_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "formats/error.h"

namespace lapidary {
namespace {

bool contains(const std::vector<int32_t>& ids, int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

std::string piece_or_empty(const Tokenizer& tokenizer, int32_t id) {
  return id < 0 ? std::string() : std::string(tokenizer.piece(id));
}

const std::string& template_of(const Engine& engine) {
  const std::string& source = engine.model().file().metadata().chat_template;
  if (source.empty())
    fail(ErrorCode::kUsage, "this model has no chat template; use --raw to give it plain text");
  return source;
}

}  // namespace

std::string generate_text(Engine& engine, Sequence& sequence, std::span<const int32_t> prompt,
                          GenerateOptions options, const Events& events, GenerateResult& result,
                          const std::function<void(std::string_view)>& on_text) {
  StreamDecoder decoder(engine.model().tokenizer(), /*skip_special=*/false);
  std::string text;
  const auto emit = [&](const std::string& piece) {
    if (piece.empty()) return;
    text += piece;
    if (on_text) on_text(piece);
  };
  const std::vector<int32_t> stops = options.stop_ids;
  options.on_token = [&](int32_t id) {
    if (!contains(stops, id)) emit(decoder.push(id));
  };
  result = generate(engine, sequence, prompt, options, events);
  emit(decoder.finish());
  return text;
}

struct ChatSession::State {
  Engine& engine;
  ChatOptions options;
  ChatTemplate chat_template;
  std::unique_ptr<Sequence> sequence;
  std::vector<int32_t> cached;  // tokens that the sequence holds
  nlohmann::ordered_json messages = nlohmann::ordered_json::array();

  ReplyFormat format = ReplyFormat::kPlain;
  std::string prompt_tail = {};

  std::string id_of_call(size_t message, size_t call) const {
    return fmt::format("call_{}_{}", message, call);
  }

  // Calls go into the history as calls, so that the template writes them and finds their names.
  void remember(const ChatReply& reply) {
    nlohmann::ordered_json message{{"role", "assistant"}, {"content", reply.text}};
    if (!reply.parsed.calls.empty()) {
      message["content"] = reply.parsed.content;
      if (!reply.parsed.reasoning.empty()) message["reasoning_content"] = reply.parsed.reasoning;
      auto& calls = message["tool_calls"] = nlohmann::ordered_json::array();
      for (const Reply::Call& call : reply.parsed.calls) {
        auto arguments = nlohmann::ordered_json::object();
        if (call.is_complete) arguments = nlohmann::ordered_json::parse(call.arguments_json);
        calls.push_back({{"id", id_of_call(messages.size(), calls.size())},
                         {"type", "function"},
                         {"function", {{"name", call.name}, {"arguments", arguments}}}});
      }
    }
    messages.push_back(std::move(message));
  }

  std::vector<int32_t> render() {
    const Tokenizer& tokenizer = engine.model().tokenizer();
    const ModelConfig& config = engine.model().config();
    ChatRequest request;
    request.messages_json = messages.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    request.tools_json = options.tools_json;
    const int32_t eos = config.eos_ids.empty() ? -1 : config.eos_ids.front();
    const std::string text = chat_template.render(request, piece_or_empty(tokenizer, config.bos_id),
                                                  piece_or_empty(tokenizer, eos));
    constexpr size_t kTailBytes = 64;
    prompt_tail = text.substr(text.size() - std::min(text.size(), kTailBytes));
    return tokenizer.encode(text);
  }

  // Rolls the cache back to the longest usable prefix of `prompt`; at least one token is left over,
  // because its logits are needed.
  int64_t reuse(const std::vector<int32_t>& prompt) {
    const size_t limit = std::min(cached.size(), prompt.empty() ? 0 : prompt.size() - 1);
    const auto end = cached.begin() + static_cast<int64_t>(limit);
    int64_t common = std::mismatch(cached.begin(), end, prompt.begin()).first - cached.begin();
    if (common < sequence->earliest_rollback()) common = 0;
    sequence->truncate(common);
    return common;
  }
};

ChatSession::ChatSession(Engine& engine, const ChatOptions& options)
    : state_(new State{engine,
                       options,
                       ChatTemplate(template_of(engine)),
                       engine.new_sequence(options.context, options.kv),
                       {}}) {
  if (!options.tools_json.empty()) state_->format = reply_format(template_of(engine));
  if (!options.system.empty())
    state_->messages.push_back({{"role", "system"}, {"content", options.system}});
}

ChatSession::ChatSession(ChatSession&&) noexcept = default;
ChatSession::~ChatSession() = default;

void ChatSession::save(const std::string& path, const std::string& adapter) const {
  const State& s = *state_;
  const Model& model = s.engine.model();
  save_session(path, model.config(), *s.sequence,
               {model.file().content_hash(), adapter, s.cached, {}, s.messages.dump()});
}

void ChatSession::load(const SessionFile& file, const std::string& adapter) {
  State& s = *state_;
  const Model& model = s.engine.model();
  auto messages = nlohmann::ordered_json::parse(file.state().messages);
  if (messages.empty())
    fail(ErrorCode::kUsage, "a session of plain text has no conversation; go on with --raw");
  if (!s.messages.empty())
    fail(ErrorCode::kUsage, "the session has its own system message; drop --system");
  s.cached = file.restore(model.config(), model.file().content_hash(), adapter, *s.sequence);
  s.messages = std::move(messages);
}

ChatReply ChatSession::say(std::string_view user,
                           const std::function<void(std::string_view)>& on_text,
                           const Events& events) {
  state_->messages.push_back({{"role", "user"}, {"content", user}});
  return answer(on_text, events);
}

ChatReply ChatSession::observe(std::span<const std::string> results,
                               const std::function<void(std::string_view)>& on_text,
                               const Events& events) {
  State& s = *state_;
  LAPIDARY_CHECK(!s.messages.empty() && s.messages.back().contains("tool_calls"));
  const nlohmann::ordered_json calls = s.messages.back()["tool_calls"];
  LAPIDARY_CHECK(calls.size() == results.size());
  for (size_t i = 0; i < results.size(); ++i)
    s.messages.push_back({{"role", "tool"},
                          {"tool_call_id", calls[i]["id"]},
                          {"name", calls[i]["function"]["name"]},
                          {"content", results[i]}});
  return answer(on_text, events);
}

ReplyFormat ChatSession::format() const { return state_->format; }
std::string_view ChatSession::prompt_tail() const { return state_->prompt_tail; }

ChatReply ChatSession::answer(const std::function<void(std::string_view)>& on_text,
                              const Events& events) {
  State& s = *state_;
  ChatReply reply;
  reply.prompt = s.render();
  reply.reused = s.reuse(reply.prompt);
  const auto rest = std::span(reply.prompt).subspan(static_cast<size_t>(reply.reused));
  reply.text =
      generate_text(s.engine, *s.sequence, rest, s.options.generate, events, reply.result, on_text);
  // The last generated token was never fed, so the sequence decides how much of it all is cached.
  s.cached = reply.prompt;
  s.cached.insert(s.cached.end(), reply.result.tokens.begin(), reply.result.tokens.end());
  s.cached.resize(std::min<size_t>(s.cached.size(), static_cast<size_t>(s.sequence->length())));
  if (s.format != ReplyFormat::kPlain)
    reply.parsed = parse_reply(s.format, reply.text, s.prompt_tail);
  s.remember(reply);
  return reply;
}

}  // namespace lapidary
