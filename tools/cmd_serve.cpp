// lapidary serve: models behind an OpenAI-compatible API.
#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "formats/error.h"
#include "runtime/server/api.h"
#include "runtime/server/api_error.h"
#include "runtime/server/http.h"
#include "runtime/server/model_pool.h"
#include "tools/cli/command_options.h"
#include "tools/cli/quantize_options.h"
#include "tools/cli/recipe.h"
#include "tools/cli/signals.h"
#include "tools/commands.h"

namespace lapidary {
namespace {

struct ServeCommand {
  std::string model, activations = "int8", memory, kv_memory, prefix_cache = "1GiB",
                     max_body = "16MiB", key_file;
  std::vector<std::string> models, adapters, assistants;
  KvText kv;
  int n_threads = 0, timeout_s = 600;
  SchedulerOptions scheduler;
  server::HttpOptions http;
  OutputOptions out;

  struct Named {
    std::string name, path;
  };
  static Named split(const std::string& option, const std::string& text) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == text.size())
      fail(ErrorCode::kUsage, "{} \"{}\": expected NAME=PATH", option, text);
    return {text.substr(0, equals), text.substr(equals + 1)};
  }

  // The model itself, then those of --model. MODEL/NAME=DIR is an adapter of MODEL, any other of
  // the first.
  server::PoolOptions pool_options() const {
    server::PoolOptions options;
    if (!model.empty())
      options.models.push_back({std::filesystem::path(model).stem().string(), model});
    for (const std::string& text : models) {
      const Named named = split("--model", text);
      options.models.push_back({named.name, named.path});
    }
    if (options.models.empty())
      fail(ErrorCode::kUsage, "serve needs a model: M.lap or --model NAME=M.lap");
    for (const std::string& text : assistants) add_assistant(text, options.models);
    for (const std::string& text : adapters) {
      const Named named = split("--adapter", text);
      std::string base = options.models.front().name;
      for (const server::PoolModel& m : options.models)
        if (named.name.starts_with(m.name + "/")) base = m.name;
      options.adapters.push_back({named.name, named.path, base});
    }
    options.memory_bytes = memory.empty() ? 0 : parse_size(memory);
    options.load = load_options();
    options.on_note = [this](const std::string& text) {
      if (!out.quiet) fmt::print(stderr, "{}\n", text);
    };
    return options;
  }

  // A.lap for the first model, MODEL=A.lap for another.
  static void add_assistant(const std::string& text, std::vector<server::PoolModel>& models) {
    const size_t equals = text.find('=');
    const std::string name =
        equals == std::string::npos ? models.front().name : text.substr(0, equals);
    const std::string path = equals == std::string::npos ? text : text.substr(equals + 1);
    for (server::PoolModel& model : models) {
      if (model.name != name) continue;
      if (!model.assistant.empty())
        fail(ErrorCode::kUsage, "--draft-model: {} has one already", name);
      model.assistant = path;
      return;
    }
    fail(ErrorCode::kUsage, "--draft-model {}: no model is named {}", text, name);
  }

  server::LoadOptions load_options() const {
    server::LoadOptions load;
    load.engine.n_threads = n_threads;
    load.engine.activations = parse_activations(activations);
    load.engine.max_logits = std::max(load.engine.max_logits, scheduler.max_running);
    load.engine.max_batch_tokens = std::max(load.engine.max_batch_tokens, scheduler.max_running);
    load.kv = parse_kv(kv);
    load.scheduler = scheduler;
    if (prefix_cache != "0") load.scheduler.prefix_bytes = parse_size(prefix_cache);
    if (!kv_memory.empty()) load.scheduler.kv_bytes = parse_size(kv_memory);
    return load;
  }

  int run(CLI::App& sub) {
    apply_recipe(sub);
    server::ApiOptions api_options;
    if (!key_file.empty()) api_options.keys = server::ApiKeys::from_file(key_file);
    api_options.answer_limit = std::chrono::seconds(timeout_s);
    http.max_body_bytes = parse_size(max_body);
    http.refusal = [](int status, std::string_view message) {
      return server::error_response({status, std::string(message)});
    };
    const bool is_open = api_options.keys.is_open();

    // The server goes first, and with it whoever asks; then the models, whose last answers find
    // nobody.
    server::ModelPool pool(pool_options());
    server::Api api(pool, std::move(api_options));
    server::HttpServer web(
        http, [&](server::HttpRequest request, std::shared_ptr<server::Exchange> exchange) {
          api.handle(request, std::move(exchange));
        });
    announce(pool, web.port(), is_open);
    if (!web.run(interrupted_flag()) && !out.quiet)
      fmt::print(stderr, "closed with answers under way after {} s\n", http.drain_limit.count());
    return 0;
  }

  void announce(const server::ModelPool& pool, int port, bool is_open) const {
    const bool is_local = http.host == "127.0.0.1" || http.host == "::1";
    const std::string host =
        http.host.find(':') == std::string::npos ? http.host : "[" + http.host + "]";
    const std::string url =
        fmt::format("{}://{}:{}", http.tls_certificate.empty() ? "http" : "https", host, port);
    std::vector<std::string> names;
    for (const server::ModelEntry& entry : pool.list()) names.push_back(entry.name);
    if (out.json) {
      fmt::print("{}\n", nlohmann::ordered_json{{"url", url}, {"models", names}}.dump());
      std::fflush(stdout);
    }
    if (out.quiet) return;
    if (!is_local && is_open)
      fmt::print(stderr, "anybody who reaches {} may use it: --api-key-file asks for keys\n", host);
    fmt::print(stderr, "{} serves {}\n", url, fmt::join(names, ", "));
  }
};

void add_limits(CLI::App& sub, ServeCommand& c) {
  sub.add_option("--context", c.scheduler.context, "Tokens that a prompt and its answer may fill")
      ->type_name("N")
      ->check(CLI::Range(int64_t{16}, int64_t{1} << 24))
      ->capture_default_str();
  sub.add_option("--parallel", c.scheduler.max_running, "Answers computed at once")
      ->type_name("N")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  sub.add_option("--queue", c.scheduler.max_waiting, "Requests that wait behind them; more get 429")
      ->type_name("N")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  sub.add_option("--memory", c.memory, "What all loaded models may take; more get 503 (no limit)")
      ->type_name("SIZE");
  sub.add_option("--kv-memory", c.kv_memory,
                 "Of each model's sequences and prefixes; default: what --parallel contexts need")
      ->type_name("SIZE");
  sub.add_option("--prefix-cache", c.prefix_cache,
                 "Of each model: what prompts begin with in common is computed once; 0: never kept")
      ->type_name("SIZE")
      ->capture_default_str();
  sub.add_option("--draft", c.scheduler.draft_tokens,
                 "Guess up to N tokens ahead, from the text so far or with --draft-model; answers "
                 "stay the same")
      ->type_name("N")
      ->check(CLI::Range(0, kRollbackTokens - 1))
      ->capture_default_str();
  sub.add_option("--draft-model", c.assistants,
                 "Assistant of the first model, or MODEL=A.lap of another, which guesses (8 tokens "
                 "unless --draft says); may be repeated")
      ->type_name("A.lap");
  sub.add_option("--timeout", c.timeout_s, "Seconds that one answer may take, waiting included")
      ->type_name("S")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  sub.add_option("--max-body", c.max_body, "Largest request; larger ones get 413")
      ->type_name("SIZE")
      ->capture_default_str();
  sub.add_option("--max-connections", c.http.max_connections, "More are turned away with 503")
      ->type_name("N")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
}

}  // namespace

void add_serve(CLI::App& app, Action& action) {
  auto command = std::make_shared<ServeCommand>();
  ServeCommand& c = *command;
  CLI::App* sub = app.add_subcommand("serve", "Serve models through OpenAI's API");
  sub->add_option("model", c.model, "A .lap file, served under its name without .lap")
      ->type_name("M.lap");
  sub->add_option("--model", c.models, "One more, loaded when first asked for; may be repeated")
      ->type_name("NAME=M.lap");
  sub->add_option("--adapter", c.adapters,
                  "PEFT folder served as a model of its own, on the first model or, named "
                  "MODEL/NAME, on that one; may be repeated")
      ->type_name("NAME=DIR");
  sub->add_option("--host", c.http.host, "Address to listen at")
      ->type_name("IP")
      ->capture_default_str();
  sub->add_option("--port", c.http.port, "0: any that is free")
      ->type_name("N")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  sub->add_option("--api-key-file", c.key_file, "Keys that clients must show, one a line")
      ->type_name("FILE");
  sub->add_option("--tls-cert", c.http.tls_certificate, "PEM chain of certificates: serves https")
      ->type_name("FILE");
  sub->add_option("--tls-key", c.http.tls_key, "PEM key of the certificate")->type_name("FILE");
  add_limits(*sub, c);
  add_kv_options(*sub, c.kv);
  sub->add_option("--activations", c.activations,
                  "Inputs of quantized matrices: int8 (rotated) or 16bit")
      ->type_name("TYPE")
      ->capture_default_str();
  add_threads_option(*sub, c.n_threads);
  add_recipe_option(*sub);
  add_output_options(*sub, c.out);
  sub->footer(
      "Ctrl-C ends it when the answers under way are done, a second one at once.\n"
      "Examples:\n  lapidary serve model.lap --port 8080\n"
      "  lapidary serve model.lap --adapter support=tuned/ --model small=270m.lap --memory 12GiB\n"
      "  lapidary serve model.lap --host 0.0.0.0 --api-key-file keys.txt --tls-cert cert.pem "
      "--tls-key key.pem\n"
      "  curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' "
      "-d '{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'");
  sub->callback(
      [command, sub, &action] { action = [command, sub] { return command->run(*sub); }; });
}

}  // namespace lapidary
