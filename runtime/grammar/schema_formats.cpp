// Formats as regular expressions: strict enough that what is written has the format, and short.
//
// They take less than the RFCs do: dates have at most 28 days in February (leap years are not
// regular enough to be worth it), hosts no internationalized names, URIs no white space.
// Sources: RFC 3339 (times), RFC 4122 (uuid), RFC 5321 (email), RFC 1123 (hostname), RFC 3986
// (uri), RFC 4291 (ipv6), ISO 8601 (duration).
#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "runtime/grammar/schema_network.h"

namespace lapidary::grammar {
namespace {

const std::string kDate =
    "[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    "|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))";
const std::string kTime =
    "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,9})?"
    "(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])";
const std::string kDateTime = kDate + "T" + kTime;
const std::string kByte = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
const std::string kIpv4 = "(?:" + kByte + "\\.){3}" + kByte;
const std::string kLabel = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?";
const std::string kHostname = kLabel + "(?:\\." + kLabel + "){0,7}";
const std::string kEmail =
    "[A-Za-z0-9_+-]{1,32}(?:\\.[A-Za-z0-9_+-]{1,32}){0,3}@" + kLabel + "(?:\\." + kLabel + "){1,4}";
const std::string kUuid =
    "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}";
// Eight groups, or fewer with one :: in their place.
std::string ipv6() {
  const std::string group = "[0-9a-fA-F]{1,4}";
  std::string all = "(?:" + group + ":){7}" + group;
  for (int before = 0; before <= 6; ++before) {
    std::string branch;
    if (before > 0) branch = group + "(?::" + group + "){" + std::to_string(before - 1) + "}";
    branch += "::";
    const int after = 6 - before;  // at most, after the one that :: stands for
    if (after > 0)
      branch += "(?:" + group + "(?::" + group + "){0," + std::to_string(after - 1) + "})?";
    all += "|" + branch;
  }
  return all;
}
const std::string kIpv6 = ipv6();
const std::string kUri = "[A-Za-z][A-Za-z0-9+.-]{0,15}:(?://" + kHostname +
                         "(?::[0-9]{1,5})?(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*)*"
                         "(?:\\?(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?"
                         "(?:#(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?)";
const std::string kDuration =
    "P(?:[0-9]{1,4}W|(?:[0-9]{1,4}Y)?(?:[0-9]{1,2}M)?[0-9]{1,4}D"
    "|T(?:[0-9]{1,4}H)?(?:[0-9]{1,4}M)?[0-9]{1,4}S|[0-9]{1,4}Y|T[0-9]{1,4}H|T[0-9]{1,4}M)";

}  // namespace

const char* format_pattern(std::string_view format) {
  static const std::array<std::pair<std::string_view, const char*>, 10> patterns{
      {{"date", kDate.c_str()},
       {"time", kTime.c_str()},
       {"date-time", kDateTime.c_str()},
       {"duration", kDuration.c_str()},
       {"email", kEmail.c_str()},
       {"hostname", kHostname.c_str()},
       {"ipv4", kIpv4.c_str()},
       {"ipv6", kIpv6.c_str()},
       {"uri", kUri.c_str()},
       {"uuid", kUuid.c_str()}}};
  for (const auto& [name, pattern] : patterns)
    if (name == format) return pattern;
  return nullptr;
}

}  // namespace lapidary::grammar
