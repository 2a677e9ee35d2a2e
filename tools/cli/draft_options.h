// Who guesses tokens ahead, and how many: --draft and --draft-model.
#pragma once

#include <memory>
#include <string>

#include "runtime/assistant.h"

namespace CLI {
class App;
}

namespace lapidary {

struct DraftChoice {
  int tokens = 0;     // 0: none, or as many as an assistant is asked for by default
  std::string model;  // an assistant's .lap; empty: none

  // Null when none is given. Throws as Assistant::load().
  std::unique_ptr<Assistant> load(Engine& engine) const;
  int tokens_ahead() const;
};
void add_draft_options(CLI::App& command, DraftChoice& choice);

}  // namespace lapidary
