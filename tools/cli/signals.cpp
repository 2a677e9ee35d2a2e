// A handler may only touch lock-free atomics and _exit; everything else happens in Events::poll().
#include "tools/cli/signals.h"

#include <unistd.h>

#include <csignal>

namespace lapidary {
namespace {

std::atomic<bool> interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free);

void on_signal(int) {
  if (interrupted.exchange(true)) _exit(130);
}

}  // namespace

void catch_interrupts() {
  struct sigaction handler {};
  handler.sa_handler = on_signal;
  sigaction(SIGINT, &handler, nullptr);  // no SA_RESTART: a blocked read returns at once
  sigaction(SIGTERM, &handler, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // a file size limit is an I/O error, not a crash
}

const std::atomic<bool>& interrupted_flag() { return interrupted; }

}  // namespace lapidary
