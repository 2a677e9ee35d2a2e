// Declaration of the options, and what they mean together.
#include "tools/cli/draft_options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "runtime/speculation.h"

namespace lapidary {

std::unique_ptr<Assistant> DraftChoice::load(Engine& engine) const {
  return model.empty() ? nullptr : Assistant::load(model, engine);
}

int DraftChoice::tokens_ahead() const { return lapidary::tokens_ahead(tokens, !model.empty()); }

void add_draft_options(CLI::App& command, DraftChoice& choice) {
  command
      .add_option("--draft", choice.tokens,
                  "Guess up to N tokens ahead, from the text so far or with --draft-model; answers "
                  "stay the same")
      ->type_name("N")
      ->check(CLI::Range(0, kRollbackTokens - 1))
      ->capture_default_str();
  command
      .add_option(
          "--draft-model", choice.model,
          fmt::format("The model's assistant, which guesses ({} tokens unless --draft says)",
                      kAssistantTokens))
      ->type_name("A.lap");
}

}  // namespace lapidary
