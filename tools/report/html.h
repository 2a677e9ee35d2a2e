// The frame of a report: one file, inline style, readable on light and dark screens and on paper.
// No script, no external resource. Callers pass text; escaping is done here.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lapidary {

// A whole page. `body` is HTML made by the functions below and by Svg::str().
std::string html_page(std::string_view title, std::string_view body);

std::string html_heading(std::string_view text);  // a section
std::string html_paragraph(std::string_view text);
std::string html_figure(std::string_view svg, std::string_view caption);

struct HtmlCell {
  std::string text;
  std::string css;  // "number", "pill pass", "pill fail", "pill unsure", or empty
};
std::string html_table(const std::vector<HtmlCell>& header,
                       const std::vector<std::vector<HtmlCell>>& rows);

// Folded away under a line that says what is inside.
std::string html_details(std::string_view summary, std::string_view remark, std::string_view body);

// Large numbers with their names: {name, value, remark}.
struct HtmlTile {
  std::string name, value, remark;
};
std::string html_tiles(const std::vector<HtmlTile>& tiles);

// Names and values in two columns under a title.
std::string html_card(std::string_view title, std::string_view headline,
                      const std::vector<std::pair<std::string, std::string>>& facts);

}  // namespace lapidary
