// lapidary tokenize: text to ids, and chat messages to the text a model would see.
#include <CLI/CLI.hpp>
#include <iostream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>

#include "convert/gguf_tokenizer.h"
#include "formats/error.h"
#include "formats/file.h"
#include "formats/lap.h"
#include "runtime/text/chat_template.h"
#include "runtime/text/tokenizer.h"
#include "tools/cli/command_options.h"
#include "tools/cli/source.h"
#include "tools/commands.h"

namespace lapidary {
namespace {

// A tokenizer.json names no vocabulary size; ids are checked against this bound instead.
constexpr int64_t kAnyVocabulary = int64_t{1} << 24;

struct TokenizeCommand {
  std::string source, text_file, prompt, chat_file, tools_file;
  bool bos = false, no_generation_prompt = false;
  OutputOptions out;

  std::unique_ptr<LapReader> lap;
  std::optional<Tokenizer> tokenizer;

  void open() {
    const bool is_json = source.size() > 5 && source.ends_with(".json");
    if (is_json || is_gguf(source)) {
      const std::string json = is_json ? read_text(source) : gguf_tokenizer_json(GgufSet(source));
      if (json.empty()) fail(ErrorCode::kBadData, "{}: has no vocabulary", source);
      tokenizer = with_context(source, [&] { return Tokenizer::from_json(json, kAnyVocabulary); });
      return;
    }
    lap = LapReader::open(source);
    tokenizer.emplace(lap->tokenizer_tables());
  }

  std::string input_text() const {
    if (!prompt.empty() + !text_file.empty() + !chat_file.empty() > 1)
      fail(ErrorCode::kUsage, "tokenize: give one of -p, --text and --chat");
    if (!tools_file.empty() && chat_file.empty())
      fail(ErrorCode::kUsage, "tokenize: --tools needs --chat; they are rendered together");
    if (!chat_file.empty()) {
      if (!lap || lap->metadata().chat_template.empty())
        fail(ErrorCode::kUsage, "--chat needs a .lap file with a chat template");
      const auto text_of = [&](int32_t id) {
        return std::string(id < 0 ? "" : tokenizer->piece(id));
      };
      const ModelConfig& config = lap->metadata().config;
      ChatRequest request;
      request.messages_json = read_json(chat_file);
      if (!tools_file.empty()) request.tools_json = read_json(tools_file);
      request.add_generation_prompt = !no_generation_prompt;
      return ChatTemplate(lap->metadata().chat_template)
          .render(request, text_of(config.bos_id),
                  text_of(config.eos_ids.empty() ? -1 : config.eos_ids.front()));
    }
    if (!text_file.empty()) return read_text(text_file);
    if (!prompt.empty()) return prompt;
    return {std::istreambuf_iterator<char>(std::cin), {}};
  }

  int run() {
    open();
    const std::string text = input_text();
    std::vector<int32_t> ids = tokenizer->encode(text);
    if (bos) {
      const std::optional<int32_t> id = tokenizer->bos_id();
      const int32_t first = id ? *id : lap ? lap->metadata().config.bos_id : -1;
      if (first < 0) fail(ErrorCode::kUsage, "--bos: this tokenizer has no BOS token");
      ids.insert(ids.begin(), first);
    }
    if (out.json) {
      const nlohmann::ordered_json json{{"ids", ids}, {"text", text}};
      fmt::print("{}\n", json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
      return 0;
    }
    if (!chat_file.empty()) fmt::print("{}\n", text);
    for (const int32_t id : ids) fmt::print("{:7} {}\n", id, tokenizer->piece(id));
    fmt::print("{} tokens\n", ids.size());
    return 0;
  }
};

}  // namespace

void add_tokenize(CLI::App& app, Action& action) {
  auto command = std::make_shared<TokenizeCommand>();
  CLI::App* sub = app.add_subcommand("tokenize", "Ids and pieces of a text or a rendered chat");
  sub->add_option("source", command->source,
                  "A .lap file, a tokenizer.json, or a GGUF file's vocabulary")
      ->required()
      ->type_name("M.lap|tokenizer.json|M.gguf");
  sub->add_option("--text", command->text_file, "Text file (default: standard input)")
      ->type_name("FILE");
  sub->add_option("-p,--prompt", command->prompt, "Text itself")->type_name("TEXT");
  sub->add_option("--chat", command->chat_file,
                  "JSON array of messages to render with the template")
      ->type_name("FILE");
  sub->add_option("--tools", command->tools_file, "JSON array of tool declarations")
      ->type_name("FILE");
  sub->add_flag("--no-generation-prompt", command->no_generation_prompt,
                "Do not open the model's turn at the end");
  sub->add_flag("--bos", command->bos, "Put BOS in front");
  add_output_options(*sub, command->out);
  sub->footer(
      "Examples:\n  lapidary tokenize model.lap -p 'Hello there' --bos\n"
      "  lapidary tokenize model.lap --chat messages.json --tools tools.json --json");
  sub->callback([command, &action] { action = [command] { return command->run(); }; });
}

}  // namespace lapidary
