// The binary: parse options, run one command, turn any Error into one line and an exit status.
//
// Exit status: 0 done or PASS, 1 FAIL, 2 INCONCLUSIVE, 64 wrong usage, 65 bad data, 66 not found,
// 70 internal, 74 I/O, 75 out of memory, 130 interrupted. Everything else is in cmd_*.cpp.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <new>
#include <system_error>

#include "formats/error.h"
#include "formats/provenance.h"
#include "tools/cli/signals.h"
#include "tools/commands.h"

namespace {

int report_error(std::string message, int status) {
  std::replace(message.begin(), message.end(), '\n', ' ');
  std::fprintf(stderr, "lapidary: %s\n", message.c_str());
  return status;
}

int usage_error(const std::string& message) {
  return report_error(message, static_cast<int>(lapidary::ErrorCode::kUsage));
}

// A report that did not reach its reader is not done: what stdio still holds may meet a full disk
// only here, long after print() came back.
void flush_output() {
  if (std::fflush(stdout) == 0 && !std::ferror(stdout)) return;
  lapidary::fail(lapidary::ErrorCode::kIo,
                 "standard output: cannot write all of it; the disk is full or the reader is gone");
}

}  // namespace

int main(int argc, char** argv) {
  using namespace lapidary;
  CLI::App app{"Lapidary: pack, quantize, fine-tune, run and verify small language models"};
  app.name("lapidary");
  app.set_version_flag("--version", std::string(kToolVersion));
  app.require_subcommand(1);
  app.footer("Each command explains itself: lapidary COMMAND --help");

  Action action;
  for (auto* add_command : all_commands()) add_command(app, action);

  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& e) {
    return app.exit(e);
  } catch (const CLI::CallForAllHelp& e) {
    return app.exit(e);
  } catch (const CLI::CallForVersion& e) {
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    return usage_error(std::string(e.what()) + " (lapidary --help lists commands and options)");
  } catch (const Error& e) {
    return report_error(e.what(), static_cast<int>(e.code()));
  }

  catch_interrupts();
  try {
    const int status = action();
    flush_output();
    return status;
  } catch (const Error& e) {
    return report_error(e.what(), static_cast<int>(e.code()));
  } catch (const CLI::Error& e) {  // values that a recipe supplied
    return usage_error(e.what());
  } catch (const std::bad_alloc&) {
    return report_error("out of memory; use a smaller --context or model",
                        static_cast<int>(ErrorCode::kOutOfMemory));
  } catch (const std::system_error& e) {  // fmt's and std::filesystem's, mostly a full disk
    return report_error(e.what(), static_cast<int>(ErrorCode::kIo));
  } catch (const std::exception& e) {
    return report_error(std::string("internal error: ") + e.what(),
                        static_cast<int>(ErrorCode::kInternal));
  }
}
