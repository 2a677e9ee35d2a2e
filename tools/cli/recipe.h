// Recipes: a TOML file may hold any option of a command under its long name; the command line wins.
//
//   weights = "w4"
//   keep = ["*.router.proj.weight=w8"]
//
// resolved_recipe() is what outputs record: every option with the value that was used.
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace lapidary {

// Adds --recipe FILE to a command.
void add_recipe_option(CLI::App& command);
// Fills options that the command line left open. REQUIRES: the command was parsed. Throws kBadData
// with file and line for bad TOML, kUsage for a key that is no option of this command.
void apply_recipe(CLI::App& command);
// JSON object of long option name -> value(s), paths reduced to file names.
std::string resolved_recipe(const CLI::App& command);

}  // namespace lapidary
