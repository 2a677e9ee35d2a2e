// `lapidary serve` on a free port, as its own process.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace lapidary {

class ServerProcess {
 public:
  // Waits until it says where it listens; port() is 0 when it does not.
  explicit ServerProcess(const std::vector<std::string>& arguments);
  ~ServerProcess();  // ends it at once

  int port() const { return port_; }
  void signal(int number) const;
  int wait();  // for its end: exit status, or 1000 + signal
  uint64_t resident_bytes() const;
  double seconds_to_listen() const { return seconds_to_listen_; }

 private:
  pid_t child_ = -1;
  int port_ = 0;
  double seconds_to_listen_ = 0;
};

}  // namespace lapidary
