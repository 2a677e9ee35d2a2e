// Splits a stream into its events.
#include "tests/runtime/server/api_fixture.h"

#include <sstream>

namespace lapidary::server {

std::vector<Event> events_of(const std::string& body) {
  std::vector<Event> events;
  std::istringstream lines(body);
  Event event;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("event: ")) {
      event.name = line.substr(7);
    } else if (line.starts_with("data: ")) {
      EXPECT_EQ(event.data, "") << "two data lines in one event";
      event.data = line.substr(6);
    } else {
      EXPECT_EQ(line, "");
      events.push_back(std::move(event));
      event = {};
    }
  }
  EXPECT_EQ(event.data, "") << "the last event is cut";
  return events;
}

}  // namespace lapidary::server
