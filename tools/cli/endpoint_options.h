// The options of a server to compare with: --endpoint and its relatives.
#pragma once

#include <string>

#include "formats/events.h"
#include "runtime/verify/endpoint.h"

namespace CLI {
class App;
}

namespace lapidary {

struct EndpointText {
  std::string url, model, key_file;
  int64_t positions = 256;
  // Throws kUsage for refinements without --endpoint.
  bool given() const;
  // Asks the server at places of the text. Throws kIo when it cannot be reached, kBadData when it
  // refuses or tells no log-probabilities, and what compare_endpoint() throws.
  EndpointComparison compare(Scorer& ours, std::string_view text, int64_t context,
                             const Events& events) const;
};
void add_endpoint_options(CLI::App& command, EndpointText& text);

}  // namespace lapidary
