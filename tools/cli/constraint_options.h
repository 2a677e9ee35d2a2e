// Options that hold an answer to a schema or a pattern.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/grammar/constraint.h"

namespace CLI {
class App;
}

namespace lapidary {

class Tokenizer;

struct ConstraintOptions {
  std::string schema;  // a file, JSON text, or the word any
  std::string regex, after;
  std::string space = "one";

  bool is_given() const { return !schema.empty() || !regex.empty(); }
  // Null when nothing is asked for. Throws as Constraint::compile(), and kUsage for options that do
  // not go together.
  std::shared_ptr<const Constraint> compile(const Tokenizer& tokenizer,
                                            const std::vector<int32_t>& stop_ids) const;
};
void add_constraint_options(CLI::App& command, ConstraintOptions& options);

}  // namespace lapidary
