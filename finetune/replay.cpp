// Sampling conversations from the base.
#include "finetune/replay.h"

#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "finetune/records.h"
#include "formats/error.h"
#include "formats/file.h"
#include "runtime/engine.h"
#include "runtime/generate.h"
#include "runtime/text/chat_template.h"

namespace lapidary {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kLongestPrompt = 256;   // tokens of a prompt that the model makes itself
constexpr int kTriesPerConversation = 4;  // empty, doubled or endless ones are made again

struct Prompt {
  Json messages = Json::array();
  Json tools;
};

// User turns of a file, up to each record's first answer.
std::vector<Prompt> read_prompts(const std::string& path) {
  std::vector<Prompt> prompts;
  read_records(path, [&](const Record& record) {
    Prompt prompt;
    for (const ChatMessage& message : record.messages) {
      if (message.is_answer) break;
      prompt.messages.push_back(Json::parse(message.json));
    }
    if (!record.tools_json.empty()) prompt.tools = Json::parse(record.tools_json);
    if (!prompt.messages.empty()) prompts.push_back(std::move(prompt));
  });
  if (prompts.empty())
    fail(ErrorCode::kBadData, "{}: holds no prompts, only text; give conversations", path);
  return prompts;
}

class ReplayMaker {
 public:
  ReplayMaker(const ReplayOptions& options, std::shared_ptr<const Model> model)
      : options_(options),
        model_(std::move(model)),
        template_(model_->file().metadata().chat_template),
        engine_(model_, engine_options(options)) {
    header_ = user_header();
  }

  // A whole conversation as one line of JSON; empty when nothing useful came.
  std::string make(const std::vector<Prompt>& prompts, int64_t index, uint64_t seed) {
    Prompt prompt =
        prompts.empty() ? invent(seed) : prompts[static_cast<size_t>(index) % prompts.size()];
    if (prompt.messages.empty()) return {};
    const std::vector<int32_t> ids = encode(render(prompt, true));
    const std::string answer =
        sample(ids, options_.context - static_cast<int64_t>(ids.size()), ~seed);
    if (answer.empty()) return {};
    prompt.messages.push_back({{"role", "assistant"}, {"content", answer}});
    Json line{{"messages", prompt.messages}};
    if (!prompt.tools.is_null()) line["tools"] = prompt.tools;
    return line.dump(-1, ' ', false, Json::error_handler_t::replace);
  }

 private:
  static EngineOptions engine_options(const ReplayOptions& options) {
    EngineOptions engine;
    engine.n_threads = options.n_threads;
    return engine;
  }

  std::vector<int32_t> encode(const std::string& text) const {
    return model_->tokenizer().encode(text, {.add_special = false, .parse_special = true});
  }

  std::string render(const Prompt& prompt, bool generation_prompt) const {
    const ModelConfig& config = model_->config();
    const auto piece = [&](int32_t id) {
      return id >= 0 ? std::string(model_->tokenizer().piece(id)) : std::string();
    };
    ChatRequest request;
    request.messages_json = prompt.messages.dump();
    if (!prompt.tools.is_null()) request.tools_json = prompt.tools.dump();
    request.add_generation_prompt = generation_prompt;
    return template_.render(request, piece(config.bos_id),
                            piece(config.eos_ids.empty() ? -1 : config.eos_ids.front()));
  }

  // What the template writes before a user's words.
  std::string user_header() const {
    constexpr std::string_view kMark = "\x01";
    Prompt prompt;
    prompt.messages.push_back({{"role", "user"}, {"content", kMark}});
    const std::string text = render(prompt, false);
    const size_t at = text.find(kMark);
    if (at == std::string::npos)
      fail(ErrorCode::kBadData, "the chat template hides the user's words; give --replay-prompts");
    return text.substr(0, at);
  }

  Prompt invent(uint64_t seed) {
    Prompt prompt;
    const std::string words = sample(encode(header_), kLongestPrompt, seed);
    if (!words.empty()) prompt.messages.push_back({{"role", "user"}, {"content", words}});
    return prompt;
  }

  // What follows `ids` up to a stop token; empty when there is no room, no end or no text.
  std::string sample(const std::vector<int32_t>& ids, int64_t room, uint64_t seed) {
    if (room < 1) return {};
    GenerateOptions generate_options;
    generate_options.max_tokens = room;
    generate_options.sampling.temperature = options_.temperature;
    generate_options.sampling.seed = seed;
    generate_options.stop_ids = model_->config().eos_ids;
    const auto sequence =
        engine_.new_sequence(static_cast<int64_t>(ids.size()) + room, KvCode::kBF16);
    GenerateResult result = generate(engine_, *sequence, ids, generate_options);
    if (result.finish_reason != "stop" || result.tokens.size() < 2) return {};
    result.tokens.pop_back();
    return model_->tokenizer().decode(result.tokens);
  }

  const ReplayOptions& options_;
  std::shared_ptr<const Model> model_;
  ChatTemplate template_;
  Engine engine_;
  std::string header_;
};

}  // namespace

void make_replay(const ReplayOptions& options, std::shared_ptr<const Model> model,
                 const std::string& path, const Events& events) {
  if (model->file().metadata().chat_template.empty())
    fail(ErrorCode::kBadData, "the model has no chat template, so it cannot make conversations");
  const std::vector<Prompt> prompts =
      options.prompts.empty() ? std::vector<Prompt>{} : read_prompts(options.prompts);
  ReplayMaker maker(options, std::move(model));
  std::set<std::string> lines;
  std::string text;
  const int64_t most = options.count * kTriesPerConversation;
  for (int64_t i = 0; i < most && static_cast<int64_t>(lines.size()) < options.count; ++i) {
    const uint64_t seed = options.seed * 0x9E3779B97F4A7C15u + static_cast<uint64_t>(i);
    const std::string line = maker.make(prompts, i, seed);
    if (line.empty() || !lines.insert(line).second) continue;
    text += line + "\n";
    events.progress({"conversations", lines.size(), static_cast<uint64_t>(options.count)});
  }
  if (lines.empty())
    fail(ErrorCode::kBadData,
         "the base model made no conversation that ends within {} tokens; give --replay-prompts, "
         "or general data instead of --replay",
         options.context);
  events.note(fmt::format("{}: {} conversations made by the base model", path, lines.size()));
  write_text_atomically(path, text);
}

}  // namespace lapidary
