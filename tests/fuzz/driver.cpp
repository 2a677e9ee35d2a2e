// Runs one fuzz target on good inputs, on their prefixes, and on seeded mutations of them.
//
//   fuzz_NAME FILE... [--iterations N] [--seed S] [--only I --save PATH]
//
// A target has libFuzzer's entry point and returns, whatever the bytes; a crash, an exception that
// leaves it, or ten seconds on one input is a finding. The line printed then repeats that input
// alone. With clang, -fsanitize=fuzzer takes this file's place.
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/fuzz/mutator.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
// Sanitizers end the process without a signal; where linked in, they call this first.
extern "C" __attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)());

namespace lapidary {
namespace {

using Bytes = std::vector<uint8_t>;

constexpr unsigned kSecondsPerInput = 10;

struct Run {
  std::vector<Bytes> inputs;
  uint64_t iterations = 2000, seed = 1;
  int64_t only = -1;  // this iteration alone
  std::string save;   // its input goes there
};

volatile int64_t current_iteration = -1;
uint64_t current_seed = 0;

void report_finding() {
  if (current_iteration >= 0)
    std::fprintf(stderr, "\nfinding: repeat with the same files and --seed %llu --only %lld\n",
                 static_cast<unsigned long long>(current_seed),
                 static_cast<long long>(current_iteration));
  current_iteration = -1;
}

extern "C" void on_signal(int signal) {
  if (signal == SIGALRM) std::fprintf(stderr, "\nno answer within the time for one input");
  report_finding();
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

// Iteration i depends on the seed and i only, so one can be repeated alone. The first iterations
// are the good inputs themselves.
Bytes input_of(const Run& run, uint64_t iteration) {
  const size_t n = run.inputs.size();
  if (iteration < n) return run.inputs[iteration];
  Mutator mutator(run.seed * 0x100000001b3ull + iteration);
  return mutator.mutate(run.inputs[iteration % n], run.inputs[mutator.below(n)]);
}

int run_fuzz(const Run& run) {
  current_seed = run.seed;
  const uint64_t first = run.only >= 0 ? static_cast<uint64_t>(run.only) : 0;
  const uint64_t last = run.only >= 0 ? first + 1 : run.iterations;
  for (uint64_t i = first; i < last; ++i) {
    const Bytes input = input_of(run, i);
    if (!run.save.empty()) {
      std::ofstream out(run.save, std::ios::binary);
      out.write(reinterpret_cast<const char*>(input.data()),
                static_cast<std::streamsize>(input.size()));
    }
    current_iteration = static_cast<int64_t>(i);
    alarm(kSecondsPerInput);
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  alarm(0);
  current_iteration = -1;
  std::printf("%llu inputs, no finding\n", static_cast<unsigned long long>(last - first));
  return 0;
}

bool parse_number(const char* text, uint64_t& out) {
  const std::string_view digits(text);
  const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), out);
  return result.ec == std::errc() && result.ptr == digits.data() + digits.size();
}

bool parse_arguments(int argc, char** argv, Run& run) {
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (!argument.starts_with("--")) {
      std::ifstream in(argument, std::ios::binary);
      if (!in) {
        std::fprintf(stderr, "%s: cannot read\n", argument.c_str());
        return false;
      }
      run.inputs.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
      continue;
    }
    if (++i == argc) return false;
    uint64_t number = 0;
    if (argument == "--save") {
      run.save = argv[i];
      continue;
    }
    if (!parse_number(argv[i], number)) return false;
    if (argument == "--iterations")
      run.iterations = number;
    else if (argument == "--seed")
      run.seed = number;
    else if (argument == "--only")
      run.only = static_cast<int64_t>(number);
    else
      return false;
  }
  if (run.inputs.empty()) run.inputs.emplace_back();
  return true;
}

}  // namespace
}  // namespace lapidary

int main(int argc, char** argv) {
  lapidary::Run run;
  if (!lapidary::parse_arguments(argc, argv, run)) {
    std::fprintf(stderr, "usage: %s FILE... [--iterations N] [--seed S] [--only I --save PATH]\n",
                 argv[0]);
    return 64;
  }
  for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGALRM})
    std::signal(signal, lapidary::on_signal);
  if (__sanitizer_set_death_callback) __sanitizer_set_death_callback(lapidary::report_finding);
  return lapidary::run_fuzz(run);
}
