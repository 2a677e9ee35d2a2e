// Lines and records, appended to two files.
#include "finetune/run_log.h"

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <system_error>
#include <utility>
#include <vector>

#include "finetune/event_file.h"
#include "formats/error.h"

namespace lapidary {
namespace {

double wall_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

void write_to(const std::string& path, const char* mode, const std::string& bytes) {
  std::FILE* file = std::fopen(path.c_str(), mode);
  bool good = file && std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  const int error = errno;
  good = file && std::fclose(file) == 0 && good;
  if (!good)
    fail(ErrorCode::kIo, "{}: cannot write: {}", path, std::system_category().message(error));
}

}  // namespace

std::string to_json_line(const LogLine& line) {
  nlohmann::ordered_json json{
      {"step", line.step},        {"loss", line.loss},     {"grad_norm", line.gradient_norm},
      {"lr", line.learning_rate}, {"tokens", line.tokens}, {"general_tokens", line.general_tokens}};
  if (line.kl >= 0) json["kl"] = line.kl;
  return json.dump() + "\n";
}

void RunLog::restore(std::string text, std::string events) {
  text_ = std::move(text);
  events_ = std::move(events);
  open_ = false;
}

void RunLog::take(const std::string& text, const std::string& events) {
  if (events_.empty()) events_ = event_file_header(wall_seconds());
  text_ += text;
  events_ += events;
}

void RunLog::append(const std::string& text, const std::string& events) {
  take(text, events);
  if (silent_) return;
  if (!open_) {
    std::error_code error;
    std::filesystem::create_directories(folder_, error);
    if (error) fail(ErrorCode::kIo, "{}: {}", folder_, error.message());
  }
  write_to(folder_ + "/log.jsonl", open_ ? "ab" : "wb", open_ ? text : text_);
  write_to(folder_ + "/" + kEventFile, open_ ? "ab" : "wb", open_ ? events : events_);
  open_ = true;
}

void RunLog::add(const LogLine& line, double tokens_per_second) {
  std::vector<std::pair<std::string_view, double>> values{
      {"train/loss", line.loss},
      {"train/grad_norm", line.gradient_norm},
      {"train/learning_rate", line.learning_rate},
      {"train/tokens_per_second", tokens_per_second}};
  if (line.kl >= 0) values.push_back({"train/kl_to_base", line.kl});
  append(to_json_line(line), scalar_event(wall_seconds(), line.step, values));
}

namespace {

std::string event_of(const Evaluation& e) {
  std::vector<std::pair<std::string_view, double>> values{{"gate/failed", e.failed ? 1.0 : 0.0}};
  const auto put = [&](std::string_view tag, const std::optional<double>& value) {
    if (value) values.push_back({tag, *value});
  };
  put("held_out/domain_loss", e.domain_loss);
  put("held_out/general_loss", e.general_loss);
  put("held_out/general_rise", e.general_rise);
  put("held_out/general_kl", e.general_kl);
  put("held_out/task_share", e.task_share);
  return scalar_event(wall_seconds(), e.step, values);
}

}  // namespace

void RunLog::add(const Evaluation& e) { append(to_json_line(e), event_of(e)); }
void RunLog::keep(const Evaluation& e) { take(to_json_line(e), event_of(e)); }

FinetuneReport report_of_log(const std::string& log) {
  FinetuneReport report;
  std::istringstream lines(log);
  for (std::string line; std::getline(lines, line);) {
    try {
      const nlohmann::json json = nlohmann::json::parse(line);
      if (!json.contains("loss")) continue;
      report.losses.push_back(json.at("loss").get<double>());
      report.tokens = json.at("tokens").get<int64_t>();
      report.general_tokens = json.at("general_tokens").get<int64_t>();
    } catch (const nlohmann::json::exception& error) {
      fail(ErrorCode::kBadData, "the log of the run: {}", error.what());
    }
  }
  if (report.losses.empty()) fail(ErrorCode::kBadData, "the log of the run holds no steps");
  report.steps = static_cast<int64_t>(report.losses.size());
  report.first_loss = report.losses.front();
  report.final_loss = report.losses.back();
  return report;
}

uint64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  uint64_t all = 0, resident = 0;
  statm >> all >> resident;
  return resident * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace lapidary
