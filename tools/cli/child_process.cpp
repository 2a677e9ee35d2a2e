// fork and exec, with three pipes: input, output, and one that tells why exec failed. The child
// leads a process group of its own, so that whatever it started is killed with it.
#include "tools/cli/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "formats/error.h"

namespace lapidary {
namespace {

using SteadyClock = std::chrono::steady_clock;
constexpr int kPollMs = 20;  // how late an interrupt may be noticed

class Pipe {
 public:
  Pipe() {
    if (pipe2(ends_, O_CLOEXEC) != 0) fail(ErrorCode::kIo, "pipe: {}", std::strerror(errno));
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  ~Pipe() {
    close_end(0);
    close_end(1);
  }
  int read_end() const { return ends_[0]; }
  int write_end() const { return ends_[1]; }
  void close_end(int i) {
    if (ends_[i] >= 0) close(ends_[i]);
    ends_[i] = -1;
  }

 private:
  int ends_[2] = {-1, -1};
};

// Kills the group unless it was waited for.
class Child {
 public:
  explicit Child(pid_t pid) : pid_(pid) {}
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    if (!has_ended_) end(true);
  }
  bool has_ended() {
    if (!has_ended_ && waitpid(pid_, &status_, WNOHANG) == pid_) has_ended_ = true;
    return has_ended_;
  }
  // Afterwards nothing of the group is left.
  int end(bool kill_now) {
    if (kill_now) kill(-pid_, SIGKILL);
    while (!has_ended_) has_ended_ = waitpid(pid_, &status_, 0) == pid_ || errno != EINTR;
    kill(-pid_, SIGKILL);
    return status_;
  }

 private:
  pid_t pid_;
  int status_ = 0;
  bool has_ended_ = false;
};

// Only what is allowed between fork and exec.
[[noreturn]] void become(char* const* argv, int input, int output, int failure) {
  setpgid(0, 0);
  for (const int ignored : {SIGPIPE, SIGXFSZ, SIGINT, SIGTERM}) signal(ignored, SIG_DFL);
  dup2(input, 0);
  dup2(output, 1);
  execvp(argv[0], argv);
  const int reason = errno;
  [[maybe_unused]] const ssize_t n = write(failure, &reason, sizeof reason);
  _exit(127);
}

}  // namespace

ChildResult run_child(const std::vector<std::string>& argv, std::string_view input,
                      const ChildLimits& limits, const std::atomic<bool>& interrupted) {
  LAPIDARY_CHECK(!argv.empty());
  std::vector<std::string> copy = argv;
  std::vector<char*> pointers;
  for (std::string& text : copy) pointers.push_back(text.data());
  pointers.push_back(nullptr);

  Pipe in, out, failure;
  const pid_t pid = fork();
  if (pid < 0) fail(ErrorCode::kIo, "{}: {}", argv[0], std::strerror(errno));
  if (pid == 0) become(pointers.data(), in.read_end(), out.write_end(), failure.write_end());
  setpgid(pid, pid);  // whoever comes first
  Child child(pid);
  in.close_end(0);
  out.close_end(1);
  failure.close_end(1);
  if (int reason = 0; read(failure.read_end(), &reason, sizeof reason) == sizeof reason)
    fail(reason == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo, "{}: {}", argv[0],
         std::strerror(reason));
  fcntl(in.write_end(), F_SETFL, O_NONBLOCK);

  ChildResult result;
  const auto deadline = SteadyClock::now() + std::chrono::duration<double>(limits.seconds);
  const auto is_over = [&] {
    if (interrupted) throw Error(ErrorCode::kInterrupted, "interrupted");
    return SteadyClock::now() >= deadline;
  };
  for (bool is_open = true; is_open;) {
    if (is_over()) {
      child.end(true);
      result.end = ChildResult::End::kTimedOut;
      return result;
    }
    pollfd polled[] = {{out.read_end(), POLLIN, 0}, {in.write_end(), POLLOUT, 0}};
    if (input.empty()) in.close_end(1);
    poll(polled, input.empty() ? 1 : 2, kPollMs);
    if (!input.empty() && polled[1].revents != 0) {
      const ssize_t n = write(in.write_end(), input.data(), input.size());
      if (n > 0) input.remove_prefix(static_cast<size_t>(n));
      if (n < 0 && errno != EAGAIN && errno != EINTR) input = {};  // it does not want more
    }
    if (polled[0].revents == 0) continue;
    char buffer[4096];
    const ssize_t n = read(out.read_end(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    is_open = n > 0;
    if (n > 0) result.output.append(buffer, static_cast<size_t>(n));
    if (result.output.size() > limits.output_bytes) {
      child.end(true);
      result.output.resize(limits.output_bytes);
      result.end = ChildResult::End::kTooMuchOutput;
      return result;
    }
  }
  while (!child.has_ended()) {
    if (is_over()) {
      child.end(true);
      result.end = ChildResult::End::kTimedOut;
      return result;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  const int status = child.end(false);
  result.end = WIFEXITED(status) ? ChildResult::End::kExited : ChildResult::End::kSignalled;
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status);
  return result;
}

}  // namespace lapidary
