// A SAX handler that builds nothing: it counts depth and remembers the keys of the open objects.
#include "formats/json_guard.h"

#include <nlohmann/json.hpp>
#include <unordered_set>
#include <vector>

#include "formats/error.h"

namespace lapidary {
namespace {

class Guard : public nlohmann::json_sax<nlohmann::json> {
 public:
  Guard(const std::string& where, int max_depth) : where_(where), max_depth_(max_depth) {}

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_array(std::size_t) override { return open(); }
  bool end_array() override { return close(); }
  bool start_object(std::size_t) override { return open(); }
  bool end_object() override { return close(); }
  bool key(string_t& name) override {
    if (!keys_.back().insert(name).second)
      fail(ErrorCode::kBadData, "{}: \"{}\" stands twice in one object; remove one", where_,
           excerpt(name));
    return true;
  }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    fail(ErrorCode::kBadData, "{}: not valid JSON at byte {}; get or write the file again", where_,
         position);
  }

 private:
  bool open() {
    if (keys_.size() >= static_cast<size_t>(max_depth_))
      fail(ErrorCode::kBadData, "{}: JSON nested deeper than the {} levels accepted here", where_,
           max_depth_);
    keys_.emplace_back();
    return true;
  }
  bool close() {
    keys_.pop_back();
    return true;
  }

  const std::string& where_;
  int max_depth_;
  std::vector<std::unordered_set<std::string>> keys_;  // one set per open object or array
};

}  // namespace

void guard_json(std::string_view text, const std::string& where, int max_depth) {
  Guard guard(where, max_depth);
  nlohmann::json::sax_parse(text.begin(), text.end(), &guard);
}

std::string excerpt(std::string_view text) {
  constexpr size_t kLimit = 80;
  if (text.size() <= kLimit) return std::string(text);
  size_t end = kLimit;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return std::string(text.substr(0, end)) + "...";
}

}  // namespace lapidary
