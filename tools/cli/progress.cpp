// One line, redrawn at most ten times a second; rate and time left from the start of the phase.
#include "tools/cli/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

#include "tools/cli/signals.h"

namespace lapidary {
namespace {

constexpr double kTerminalInterval = 0.1, kPlainInterval = 5.0;  // seconds between lines

std::string rate_text(const Progress& p, double seconds) {
  if (seconds < 0.05) return "";
  if (p.bytes_done) return format_bytes(static_cast<double>(p.bytes_done) / seconds) + "/s";
  return fmt::format("{:.1f} {}/s", static_cast<double>(p.done) / seconds, p.what);
}

}  // namespace

std::string format_duration(double seconds) {
  if (seconds < 60) return fmt::format("{:.1f} s", seconds);
  const long total = static_cast<long>(seconds + 0.5);
  if (total < 3600) return fmt::format("{}:{:02}", total / 60, total % 60);
  return fmt::format("{}:{:02}:{:02}", total / 3600, total / 60 % 60, total % 60);
}

std::string format_bytes(double bytes) {
  if (bytes < 1e3) return fmt::format("{:.0f} B", bytes);
  if (bytes < 1e6) return fmt::format("{:.1f} kB", bytes / 1e3);
  if (bytes < 1e9) return fmt::format("{:.1f} MB", bytes / 1e6);
  return fmt::format("{:.2f} GB", bytes / 1e9);
}

ProgressLine::ProgressLine(bool quiet)
    : quiet_(quiet), terminal_(isatty(STDERR_FILENO)), start_(Clock::now()), last_(start_) {}

ProgressLine::~ProgressLine() { clear(); }

void ProgressLine::clear() {
  if (drawn_) std::fputs("\r\033[K", stderr);
  drawn_ = false;
}

Events ProgressLine::events() {
  Events events;
  events.cancelled = &interrupted_flag();
  if (quiet_) return events;
  events.on_progress = [this](const Progress& p) { show(p); };
  events.on_note = [this](const std::string& text) {
    clear();
    std::fprintf(stderr, "note: %s\n", text.c_str());
  };
  return events;
}

void ProgressLine::show(const Progress& p) {
  const Clock::time_point now = Clock::now();
  if (what_ != p.what) {
    what_ = p.what;
    start_ = now;
  }
  const double since_last = std::chrono::duration<double>(now - last_).count();
  if (since_last < (terminal_ ? kTerminalInterval : kPlainInterval)) return;
  last_ = now;

  const double seconds = std::chrono::duration<double>(now - start_).count();
  const double done = static_cast<double>(p.done), total = static_cast<double>(p.total);
  std::string line =
      p.total ? fmt::format("{:3.0f} %  {}/{} {}", 100 * done / total, p.done, p.total, p.what)
              : fmt::format("{} {}", p.done, p.what);
  const std::string rate = rate_text(p, seconds);
  if (!rate.empty()) line += "  " + rate;
  if (p.done && p.done < p.total)
    line += "  " + format_duration(seconds * (total - done) / done) + " left";
  if (!p.detail.empty()) line += "  " + p.detail;
  if (terminal_) {
    std::fprintf(stderr, "\r\033[K%.110s", line.c_str());
    drawn_ = true;
  } else {
    std::fprintf(stderr, "%s\n", line.c_str());
  }
}

}  // namespace lapidary
