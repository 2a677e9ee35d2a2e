// fork, limit, exec; the parent may interrupt, then waits and reads.
#include "tests/tools/command_runner.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <thread>

#include "tests/test_data.h"

namespace lapidary {
namespace {

std::string slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

}  // namespace

Outcome lapidary_command(const std::vector<std::string>& arguments, const RunLimits& limits) {
  TemporaryFolder folder;
  std::ofstream(folder.file("in")) << limits.input;
  const pid_t child = fork();
  if (child == 0) {
    setpgid(0, 0);
    for (const std::string& variable : limits.environment) {
      const size_t at = variable.find('=');
      setenv(variable.substr(0, at).c_str(), variable.c_str() + at + 1, 1);
    }
    if (limits.file_bytes != RLIM_INFINITY) {
      const rlimit limit{limits.file_bytes, limits.file_bytes};
      setrlimit(RLIMIT_FSIZE, &limit);
    }
    if (!freopen(folder.file("in").c_str(), "r", stdin) ||
        !freopen(folder.file("out").c_str(), "w", stdout) ||
        !freopen(folder.file("err").c_str(), "w", stderr))
      _exit(99);
    std::vector<char*> argv;
    std::string program = LAPIDARY_BINARY;
    argv.push_back(program.data());
    std::vector<std::string> copy = arguments;
    for (std::string& a : copy) argv.push_back(a.data());
    argv.push_back(nullptr);
    execv(program.c_str(), argv.data());
    _exit(98);
  }
  if (limits.interrupt_after_ms >= 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(limits.interrupt_after_ms));
    kill(child, SIGINT);
  }
  if (limits.kill_after_ms >= 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(limits.kill_after_ms));
    kill(-child, SIGKILL);
  }
  int status = 0;
  waitpid(child, &status, 0);
  Outcome outcome;
  outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  outcome.out = slurp(folder.file("out"));
  outcome.err = slurp(folder.file("err"));
  return outcome;
}

size_t count_lines(const std::string& text) { return std::count(text.begin(), text.end(), '\n'); }

void expect_error(const Outcome& outcome, int status, const std::string& mentions) {
  EXPECT_EQ(outcome.status, status) << outcome.err;
  EXPECT_EQ(count_lines(outcome.err), 1u) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  EXPECT_NE(outcome.err.find(mentions), std::string::npos) << outcome.err;
}

}  // namespace lapidary
