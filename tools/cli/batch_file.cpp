// Strict lines in, whole lines out.
#include "tools/cli/batch_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "formats/error.h"
#include "formats/file.h"
#include "formats/json_guard.h"

namespace lapidary {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kLongestLine = 64u << 20;

std::string id_of(const Json& json, int64_t line) {
  const auto found = json.find("id");
  if (found == json.end()) return std::to_string(line);
  if (found->is_string()) return found->get<std::string>();
  if (found->is_number_integer()) return found->dump();
  fail(ErrorCode::kBadData, "id is {}: expected text or a whole number", excerpt(found->dump()));
}

double number(const Json& value, const std::string& key) {
  if (!value.is_number())
    fail(ErrorCode::kBadData, "{} is {}: expected a number", key, excerpt(value.dump()));
  return value.get<double>();
}

int64_t whole(const Json& value, const std::string& key, int64_t least, int64_t most) {
  const double x = number(value, key);
  if (!(x >= double(least)) || !(x <= double(most)) || x != std::floor(x))
    fail(ErrorCode::kBadData, "{} is {}: expected a whole number from {} to {}", key,
         excerpt(value.dump()), least, most);
  return static_cast<int64_t>(x);
}

void read_field(const std::string& key, const Json& value, BatchRequest& r) {
  SamplingOptions& s = r.sampling;
  const auto real = [&] { return static_cast<float>(number(value, key)); };
  if (key == "id") return;
  if (key == "prompt") {
    if (!value.is_string())
      fail(ErrorCode::kBadData, "prompt is {}: expected text", excerpt(value.dump()));
    r.prompt = value.get<std::string>();
  } else if (key == "messages") {
    if (!value.is_array() || value.empty())
      fail(ErrorCode::kBadData, "messages is {}: expected a list", excerpt(value.dump()));
    r.messages = value.dump();
  } else if (key == "greedy") {
    if (!value.is_boolean()) fail(ErrorCode::kBadData, "greedy: expected true or false");
    s.greedy = value.get<bool>();
  } else if (key == "max_tokens") {
    r.max_tokens = whole(value, key, 1, INT32_MAX);
  } else if (key == "seed") {
    s.seed = static_cast<uint64_t>(whole(value, key, 0, int64_t{1} << 53));
  } else if (key == "top_k") {
    s.top_k = static_cast<int>(whole(value, key, 0, INT32_MAX));
  } else if (key == "temperature") {
    s.temperature = real();
    s.greedy = false;
  } else if (key == "top_p") {
    s.top_p = real();
  } else if (key == "min_p") {
    s.min_p = real();
  } else if (key == "repetition_penalty") {
    s.repetition_penalty = real();
  } else if (key == "presence_penalty") {
    s.presence_penalty = real();
  } else if (key == "frequency_penalty") {
    s.frequency_penalty = real();
  } else {
    fail(ErrorCode::kBadData, "unknown key \"{}\"", excerpt(key));
  }
}

BatchRequest read_request(const std::string& text, int64_t line, const BatchDefaults& defaults) {
  guard_json(text, "request");
  const Json json = Json::parse(text);
  if (!json.is_object()) fail(ErrorCode::kBadData, "expected a JSON object");
  BatchRequest r;
  r.line = line;
  r.id = id_of(json, line);
  r.max_tokens = defaults.max_tokens;
  r.sampling = defaults.sampling;
  for (const auto& [key, value] : json.items()) read_field(key, value, r);
  if (json.contains("prompt") == json.contains("messages"))
    fail(ErrorCode::kBadData, "expected \"prompt\" or \"messages\"");
  validate(r.sampling);
  return r;
}

[[noreturn]] void fail_io(const std::string& path, const char* what) {
  fail(ErrorCode::kIo, "'{}': cannot {}: {}", path, what, std::strerror(errno));
}

}  // namespace

BatchInput::BatchInput(const std::string& path, const BatchDefaults& defaults)
    : path_(path), in_(path), defaults_(defaults) {
  if (!in_) fail(ErrorCode::kNotFound, "'{}': {}", path, std::strerror(errno));
}

bool BatchInput::next(BatchRequest& request) {
  for (std::string text; std::getline(in_, text);) {
    ++line_;
    if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
    try {
      if (text.size() > kLongestLine)
        fail(ErrorCode::kBadData, "longer than {} bytes", kLongestLine);
      request = read_request(text, line_, defaults_);
    } catch (const Error& e) {  // kUsage too: the options are in the file
      fail(ErrorCode::kBadData, "'{}' line {}: {}", path_, line_, e.what());
    }
    return true;
  }
  if (in_.bad()) fail_io(path_, "read");
  return false;
}

int64_t BatchInput::check(const std::string& path, const BatchDefaults& defaults) {
  BatchInput input(path, defaults);
  std::set<std::string> ids;
  BatchRequest request;
  while (input.next(request))
    if (!ids.insert(request.id).second)
      fail(ErrorCode::kBadData, "'{}' line {}: id \"{}\" comes twice", path, request.line,
           excerpt(request.id));
  return std::ssize(ids);
}

BatchOutput::BatchOutput(const std::string& path) : path_(path) {
  uint64_t n_bytes = 0;  // of whole lines
  if (path_exists(path)) {
    std::ifstream in(path);
    int64_t line = 0;
    for (std::string text; std::getline(in, text) && !in.eof(); n_bytes += text.size() + 1) {
      ++line;
      const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
      const auto id = json.is_object() ? json.find("id") : json.end();
      if (!json.is_object() || id == json.end() || !id->is_string() ||
          (!json.contains("finish_reason") && !json.contains("error")))
        fail(ErrorCode::kBadData, "'{}' line {}: no answer of run --batch; give another -o", path,
             line);
      finished_.insert(id->get<std::string>());
    }
  }
  fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (fd_ < 0) fail_io(path, "write");
  if (::ftruncate(fd_, off_t(n_bytes)) != 0 || ::lseek(fd_, 0, SEEK_END) < 0)
    fail_io(path, "cut the last line");
}

BatchOutput::~BatchOutput() {
  if (fd_ >= 0) ::close(fd_);
}

void BatchOutput::append(const std::string& json) {
  const std::string text = json + '\n';
  for (size_t done = 0; done < text.size();) {
    const ssize_t n = ::write(fd_, text.data() + done, text.size() - done);
    if (n < 0 && errno != EINTR) fail_io(path_, "write");
    if (n > 0) done += size_t(n);
  }
}

void BatchOutput::sync() {
  if (::fsync(fd_) != 0) fail_io(path_, "write");
}

}  // namespace lapidary
