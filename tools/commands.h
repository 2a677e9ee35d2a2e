// The commands, one cmd_NAME.cpp each: declare options, make one library call, print one report.
#pragma once

#include <functional>
#include <vector>

namespace CLI {
class App;
}

namespace lapidary {

using Action = std::function<int()>;  // what the chosen command will do; returns the exit status
using AddCommand = void(CLI::App& app, Action& action);

AddCommand add_convert, add_quantize, add_finetune, add_merge, add_run, add_eval, add_verify,
    add_inspect, add_tokenize, add_export, add_bench, add_serve;

// In the order of --help; finetune only when built with LibTorch.
std::vector<AddCommand*> all_commands();

}  // namespace lapidary
