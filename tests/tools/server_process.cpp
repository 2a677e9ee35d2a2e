// fork, exec, and the one line of JSON that --json promises.
#include "tests/tools/server_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>

namespace lapidary {

ServerProcess::ServerProcess(const std::vector<std::string>& arguments) {
  const auto start = std::chrono::steady_clock::now();
  int out[2];
  if (pipe2(out, O_CLOEXEC) != 0) return;
  child_ = fork();
  if (child_ == 0) {
    dup2(out[1], STDOUT_FILENO);
    std::vector<std::string> words{LAPIDARY_BINARY, "serve", "--json", "--quiet", "--port", "0"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    execv(argv[0], argv.data());
    _exit(98);
  }
  close(out[1]);
  std::string line;
  for (char c; read(out[0], &c, 1) == 1 && c != '\n';) line += c;
  close(out[0]);
  // {"url":"http://127.0.0.1:PORT","models":[...]}
  if (const size_t at = line.find("127.0.0.1:"); at != std::string::npos)
    port_ = std::atoi(line.c_str() + at + 10);
  seconds_to_listen_ =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

ServerProcess::~ServerProcess() {
  if (child_ <= 0) return;
  kill(child_, SIGKILL);
  waitpid(child_, nullptr, 0);
}

void ServerProcess::signal(int number) const { kill(child_, number); }

int ServerProcess::wait() {
  int status = 0;
  waitpid(child_, &status, 0);
  child_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

uint64_t ServerProcess::resident_bytes() const {
  std::ifstream in("/proc/" + std::to_string(child_) + "/statm");
  uint64_t pages = 0;
  in >> pages >> pages;
  return pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace lapidary
