// lapidary run: streaming generation from a prompt, or an interactive chat.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "formats/error.h"
#include "formats/file.h"
#include "runtime/chat_session.h"
#include "runtime/kv_choice.h"
#include "tools/cli/batch_run.h"
#include "tools/cli/command_options.h"
#include "tools/cli/constraint_options.h"
#include "tools/cli/draft_options.h"
#include "tools/cli/progress.h"
#include "tools/cli/sampling_options.h"
#include "tools/cli/signals.h"
#include "tools/cli/source.h"
#include "tools/cli/tool_options.h"
#include "tools/commands.h"

namespace lapidary {
namespace {

struct RunCommand {
  std::string model, mode, prompt, prompt_file, system, save_file, load_file;
  BatchOptions batched;
  bool raw = false;
  int64_t max_tokens = 256, context = 4096;
  ToolOptions tool_options;
  SamplingChoice sampling;
  ModelOptions model_options;
  ConstraintOptions constraint;
  DraftChoice draft;
  OutputOptions out;

  int run(const CLI::App& sub) const {
    if (!mode.empty() && mode != "chat")
      fail(ErrorCode::kUsage,
           "run: unexpected \"{}\"; the only mode word is chat (use -p for text)", mode);
    if (raw && (!tool_options.file.empty() || !system.empty() || mode == "chat"))
      fail(ErrorCode::kUsage, "--raw uses no chat template; drop --system, --tools and chat");
    tool_options.check(constraint);
    if (mode == "chat" && (!prompt.empty() || !prompt_file.empty()))
      fail(ErrorCode::kUsage, "run chat reads what you type; drop -p and -f, or the word chat");
    if (!batched.input.empty() &&
        (!mode.empty() || !prompt.empty() || !prompt_file.empty() || !save_file.empty() ||
         !load_file.empty() || !tool_options.allowed.empty()))
      fail(ErrorCode::kUsage,
           "--batch takes its prompts from {}; drop chat, -p, -f, sessions and --allow-tool",
           batched.input);
    if (batched.input.empty() != batched.output.empty())
      fail(ErrorCode::kUsage, "--batch IN.jsonl and -o OUT.jsonl belong together");
    const EngineScorerOptions how = model_options.scorer_options();
    const std::shared_ptr<const Model> m = Model::load(model);
    std::shared_ptr<const Adapter> adapter;
    if (!model_options.adapter.empty()) adapter = Adapter::load(model_options.adapter, *m);
    Engine engine(m, how.engine);
    const std::unique_ptr<Assistant> assistant = draft.load(engine);
    if (!batched.input.empty())
      return batch(engine, assistant.get(), sampling.resolved(sub, m->file().metadata()),
                   kv_for(how.kv, m->file().metadata()), adapter);

    ChatOptions options;
    options.system = system;
    const LocalTools tools = tool_options.load();
    options.tools_json = tools.declarations();
    options.context = context;
    options.kv = kv_for(how.kv, m->file().metadata());
    std::optional<SessionFile> session;
    if (!load_file.empty()) {
      session.emplace(load_file);
      if (!how.kv && session->state().model == m->file().content_hash())
        options.kv = kv_from_json(m->config(), session->kv());
    }
    options.generate.max_tokens = max_tokens;
    options.generate.sampling = sampling.resolved(sub, m->file().metadata());
    options.generate.stop_ids = m->config().eos_ids;
    options.generate.adapter = adapter.get();
    options.generate.draft = {draft.tokens_ahead(), assistant.get()};
    options.generate.constraint = tools.may_run()
                                      ? calls_as_declared(*m, options.tools_json)
                                      : constraint.compile(m->tokenizer(), m->config().eos_ids);
    const Started started{engine, options, tools, session ? &*session : nullptr,
                          adapter ? adapter_identity(model_options.adapter) : ""};
    return mode == "chat" ? chat(started) : once(started);
  }

  int batch(Engine& engine, Assistant* assistant, const SamplingOptions& resolved,
            const KvOptions& kv, const std::shared_ptr<const Adapter>& adapter) const {
    BatchRun run;
    run.files = batched;
    run.defaults = {max_tokens, resolved};
    run.raw = raw;
    run.system = system;
    run.tools_json = tool_options.load().declarations();
    run.adapter = adapter;
    const Model& m = engine.model();
    run.constraint = constraint.compile(m.tokenizer(), m.config().eos_ids);
    run.scheduler.context = context;
    run.scheduler.kv = kv;
    run.scheduler.draft_tokens = draft.tokens_ahead();
    run.scheduler.assistant = assistant;
    ProgressLine progress(out.quiet);
    Events events = progress.events();
    events.cancelled = &interrupted_flag();
    const BatchSummary done = run_batch(engine, run, events);
    print_summary(run, done, out);
    return done.failed > 0 ? 1 : 0;
  }

  struct Started {
    Engine& engine;
    const ChatOptions& options;
    const LocalTools& tools;
    const SessionFile* session;  // null: a new one
    std::string adapter;         // adapter_identity()
  };

  std::string prompt_text() const {
    if (!prompt.empty() && !prompt_file.empty())
      fail(ErrorCode::kUsage, "run: give -p TEXT or -f FILE, not both");
    if (!prompt_file.empty()) return read_text(prompt_file);
    if (!prompt.empty()) return prompt;
    fail(ErrorCode::kUsage, "run needs -p TEXT, -f FILE, or the word chat");
  }

  int once(const Started& with) const {
    const std::string text = prompt_text();
    Events events;
    events.cancelled = &interrupted_flag();
    const auto stream = [this](std::string_view piece) {
      if (out.json) return;
      std::fwrite(piece.data(), 1, piece.size(), stdout);
      std::fflush(stdout);
    };
    ChatReply reply;
    std::vector<ToolAction> actions;
    if (raw) {
      reply = once_raw(with, text, events, stream);
    } else {
      ChatSession chat = open_chat(with);
      reply = tool_options.say(chat, with.tools, text, stream, events, out, actions);
      if (!save_file.empty()) chat.save(save_file, with.adapter);
    }
    print(reply, actions);
    return 0;
  }

  // Plain text goes on after a session's tokens, else after BOS.
  ChatReply once_raw(const Started& with, const std::string& text, const Events& events,
                     const std::function<void(std::string_view)>& stream) const {
    const Model& m = with.engine.model();
    const auto sequence = with.engine.new_sequence(with.options.context, with.options.kv);
    SessionState state{m.file().content_hash(), with.adapter, {}, {}, "[]"};
    ChatReply reply;
    reply.prompt = m.tokenizer().encode(text);
    if (with.session) {
      if (with.session->state().messages != "[]")
        fail(ErrorCode::kUsage, "{} holds a conversation; go on without --raw", load_file);
      state.tokens = with.session->restore(m.config(), state.model, state.adapter, *sequence);
      const auto& pending = with.session->state().pending;
      reply.prompt.insert(reply.prompt.begin(), pending.begin(), pending.end());
    } else if (const int32_t bos = m.config().bos_id;
               bos >= 0 && (reply.prompt.empty() || reply.prompt.front() != bos)) {
      reply.prompt.insert(reply.prompt.begin(), bos);
    }
    reply.text = generate_text(with.engine, *sequence, reply.prompt, with.options.generate, events,
                               reply.result, stream);
    if (!save_file.empty()) {
      for (const std::vector<int32_t>* ids : {&reply.prompt, &reply.result.tokens})
        state.tokens.insert(state.tokens.end(), ids->begin(), ids->end());
      const auto held = state.tokens.begin() + sequence->length();
      state.pending.assign(held, state.tokens.end());
      state.tokens.erase(held, state.tokens.end());
      save_session(save_file, m.config(), *sequence, state);
    }
    return reply;
  }

  ChatSession open_chat(const Started& with) const {
    ChatSession chat(with.engine, with.options);
    if (with.session) chat.load(*with.session, with.adapter);
    return chat;
  }

  void print(const ChatReply& reply, const std::vector<ToolAction>& actions) const {
    const auto rate = [](size_t n, double seconds) {
      return seconds > 0 ? static_cast<double>(n) / seconds : 0.0;
    };
    const double prompt_rate = rate(reply.prompt.size(), reply.result.prompt_seconds);
    const double decode_rate = rate(reply.result.tokens.size(), reply.result.decode_seconds);
    if (out.json) {
      nlohmann::ordered_json json{{"prompt_tokens", reply.prompt},
                                  {"tokens", reply.result.tokens},
                                  {"text", reply.text},
                                  {"finish_reason", reply.result.finish_reason},
                                  {"prompt_tokens_per_second", prompt_rate},
                                  {"tokens_per_second", decode_rate}};
      if (draft.tokens_ahead() > 0) {
        json["drafted_tokens"] = reply.result.n_guessed;
        json["accepted_tokens"] = reply.result.n_held;
      }
      for (const ToolAction& a : actions)
        json["actions"].push_back(
            {{"name", a.name}, {"arguments", a.arguments_json}, {"result", a.result}});
      fmt::print("{}\n", json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
      return;
    }
    fmt::print("\n");
    if (!out.quiet)
      fmt::print(stderr, "[{} prompt tokens at {:.0f}/s, {} new at {:.1f}/s, stopped by {}]\n",
                 reply.prompt.size(), prompt_rate, reply.result.tokens.size(), decode_rate,
                 reply.result.finish_reason);
    if (!out.quiet && draft.tokens_ahead() > 0)
      fmt::print(stderr, "[{} of {} guesses held]\n", reply.result.n_held, reply.result.n_guessed);
  }

  int chat(const Started& with) const {
    if (out.json) fail(ErrorCode::kUsage, "run chat is interactive; --json needs -p or -f");
    ChatSession session = open_chat(with);
    Events events;
    events.cancelled = &interrupted_flag();
    fmt::print(stderr, "Type a message; an empty line or Ctrl-D ends the chat.\n");
    for (std::string line;
         fmt::print(stderr, "> "), std::getline(std::cin, line) && !line.empty();) {
      std::vector<ToolAction> actions;
      const ChatReply reply = tool_options.say(
          session, with.tools, line,
          [](std::string_view piece) {
            std::fwrite(piece.data(), 1, piece.size(), stdout);
            std::fflush(stdout);
          },
          events, out, actions);
      fmt::print("\n");
      if (reply.result.finish_reason == "context")
        fail(ErrorCode::kUsage, "the conversation reached {} tokens; use a larger --context",
             with.options.context);
      if (!save_file.empty()) session.save(save_file, with.adapter);
    }
    events.poll();
    return 0;
  }
};

}  // namespace

void add_run(CLI::App& app, Action& action) {
  auto command = std::make_shared<RunCommand>();
  CLI::App* sub = app.add_subcommand("run", "Generate text, or chat");
  sub->add_option("model", command->model, "A .lap file")->required()->type_name("M.lap");
  sub->add_option("mode", command->mode, "The word chat starts an interactive chat")
      ->type_name("[chat]");
  sub->add_option("-p,--prompt", command->prompt, "The user's message")->type_name("TEXT");
  sub->add_option("-f,--file", command->prompt_file, "Read the message from a file")
      ->type_name("FILE");
  sub->add_option("--system", command->system, "System message")->type_name("TEXT");
  add_tool_options(*sub, command->tool_options);
  sub->add_option("--save-session", command->save_file,
                  "Write conversation and cache here, in a chat after each answer")
      ->type_name("FILE");
  sub->add_option("--load-session", command->load_file,
                  "Go on where --save-session stopped, with the same model, adapter and KV cache")
      ->type_name("FILE");
  add_batch_options(*sub, command->batched);
  sub->add_flag("--raw", command->raw, "No chat template: BOS and the text as it is");
  sub->add_option("--max-tokens", command->max_tokens, "New tokens at most")
      ->type_name("N")
      ->check(CLI::Range(int64_t{1}, (int64_t{1} << 31) - 1))
      ->capture_default_str();
  sub->add_option("--context", command->context, "Tokens that prompt and answer may fill")
      ->type_name("N")
      ->check(CLI::Range(int64_t{1}, (int64_t{1} << 31) - 1))
      ->capture_default_str();
  add_sampling_options(*sub, command->sampling);
  add_constraint_options(*sub, command->constraint);
  add_draft_options(*sub, command->draft);
  add_model_options(*sub, command->model_options);
  add_output_options(*sub, command->out);
  sub->footer(
      "Examples:\n  lapidary run model.lap -p 'What is the capital of Peru?'\n"
      "  lapidary run model.lap -p 'Name and age: ...' --json-schema person.json\n"
      "  lapidary run model.lap -p 'Is it cold in Oslo?' --tools tools.json --allow-tool weather\n"
      "  lapidary run model.lap chat --adapter tuned/\n"
      "  lapidary run model.lap --draft-model assistant.lap -p 'Tell me a story'\n"
      "  lapidary run model.lap --batch questions.jsonl -o answers.jsonl\n"
      "  lapidary run model.lap --raw --greedy -p 'Once upon' --max-tokens 50 --json");
  sub->callback(
      [command, sub, &action] { action = [command, sub] { return command->run(*sub); }; });
}

}  // namespace lapidary
