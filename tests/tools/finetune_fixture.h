// A small model and data to fine-tune it with, for tests of the command.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "convert/convert.h"
#include "convert/hf_source.h"
#include "formats/file.h"
#include "tests/finetune_data.h"
#include "tests/test_data.h"
#include "tests/tools/command_runner.h"

namespace lapidary {

namespace fs = std::filesystem;

inline int free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  ::bind(fd, reinterpret_cast<sockaddr*>(&address), length);
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
  ::close(fd);
  return ntohs(address.sin_port);
}

class FinetuneCli : public ::testing::Test {
 protected:
  FinetuneCli() {
    model_ = folder_.file("nano-e.lap");
    convert(*HfSource::open(data_path("nano-e")), model_, {});
    write_letter_counts(folder_.file("data.jsonl"), 60);
    write_known_skills(folder_.file("general.jsonl"), 40);
  }

  std::vector<std::string> command(const std::string& output,
                                   const std::vector<std::string>& more = {}) const {
    std::vector<std::string> all{"finetune",
                                 model_,
                                 "--data",
                                 folder_.file("data.jsonl"),
                                 "--general",
                                 folder_.file("general.jsonl"),
                                 "--kl-to-base",
                                 "0.5",
                                 "--steps",
                                 "16",
                                 "--context",
                                 "128",
                                 "--batch-tokens",
                                 "160",
                                 "--rank",
                                 "4",
                                 "--lr",
                                 "0.002",
                                 "--eval-steps",
                                 "4",
                                 "--hold-out",
                                 "20",
                                 "--gate-nats",
                                 "9",
                                 "--threads",
                                 "1",
                                 "-o",
                                 folder_.file(output)};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  std::string result(const std::string& output) const {
    std::string all;
    for (const char* file : {"/adapter_model.safetensors", "/adapter_config.json", "/log.jsonl",
                             "/lapidary.json", "/probe.safetensors"})
      all += read_text(folder_.file(output) + file);
    return all;
  }
  // The losses of a log, one per line.
  std::vector<double> losses(const std::string& output) const {
    std::istringstream log(read_text(folder_.file(output) + "/log.jsonl"));
    std::vector<double> all;
    for (std::string line; std::getline(log, line);)
      if (const size_t at = line.find("\"loss\":"); at != std::string::npos)
        all.push_back(std::stod(line.substr(at + 7)));
    return all;
  }
  RunLimits process(int rank, int port) const {
    RunLimits limits;
    limits.environment = {"RANK=" + std::to_string(rank), "WORLD_SIZE=2", "MASTER_ADDR=127.0.0.1",
                          "MASTER_PORT=" + std::to_string(port)};
    return limits;
  }

  TemporaryFolder folder_;
  std::string model_;
};

}  // namespace lapidary
