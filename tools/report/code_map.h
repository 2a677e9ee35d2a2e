// A picture of who got how many bits: layers from left to right, kinds of tensors from top to
// bottom, darker for more bits.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "tools/report/svg.h"

namespace lapidary {

struct CodeCell {
  std::string code, hint;  // "w4"; what a pointer over it shows
  double bits = 0;
};
struct CodeMap {
  std::string title;
  int n_layers = 0;
  std::map<std::string, std::map<int, CodeCell>> rows;  // kind -> layer -> cell
  double width = 720;
};
Svg draw(const CodeMap& map);

}  // namespace lapidary
