// From a URL to a function that asks.
#include "tools/cli/endpoint_options.h"

#include <CLI/CLI.hpp>
#include <sstream>

#include "formats/error.h"
#include "formats/file.h"
#include "runtime/server/http_client.h"

namespace lapidary {
namespace {

constexpr int kMostTold = 20, kFewTold = 5;  // vLLM's usual limit, and OpenAI's
constexpr int64_t kPlaces = 256;

std::string key_in(const std::string& path) {
  std::string key;
  if (path.empty()) return key;
  std::istringstream text(read_text(path, 1 << 16));
  text >> key;
  if (key.empty()) fail(ErrorCode::kBadData, "{}: has no API key", path);
  return key;
}

}  // namespace

bool EndpointText::given() const {
  if (url.empty() && (!model.empty() || !key_file.empty() || positions != kPlaces))
    fail(ErrorCode::kUsage,
         "--endpoint-model, --endpoint-key-file and --positions need --endpoint");
  return !url.empty();
}

EndpointComparison EndpointText::compare(Scorer& ours, std::string_view text, int64_t context,
                                         const Events& events) const {
  server::HttpClient client(url, {.api_key = key_in(key_file)});
  const CompletionReader reader(ours.tokenizer(), ours.vocab_size());
  int n_told = kMostTold;
  const auto ask = [&](std::span<const int32_t> prompt) {
    for (;;) {
      const server::HttpResponse answer =
          client.post("/completions", completion_request(model, prompt, n_told));
      if (answer.status == 200) return reader.read(answer.body);
      if (answer.status != 400 || n_told == kFewTold)
        fail(ErrorCode::kBadData, "{}: status {}: {}", url, answer.status,
             answer.body.substr(0, 300));
      n_told = kFewTold;  // some allow no more
    }
  };
  return compare_endpoint(ours, ask, text, {context, positions}, events);
}

void add_endpoint_options(CLI::App& command, EndpointText& text) {
  command
      .add_option("--endpoint", text.url,
                  "Judge a server with OpenAI's API instead of a file: is it this model that "
                  "answers? By the log-probabilities of its best tokens")
      ->type_name("URL");
  command.add_option("--endpoint-model", text.model, "The model's name there")->type_name("NAME");
  command.add_option("--endpoint-key-file", text.key_file, "File with the API key")
      ->type_name("FILE");
  command.add_option("--positions", text.positions, "Places of the text to ask the server at")
      ->type_name("N")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 20))
      ->capture_default_str();
}

}  // namespace lapidary
