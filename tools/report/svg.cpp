// Shapes as text. Numbers have two decimals: finer than a pixel, shorter than a double.
#include "tools/report/svg.h"

#include <fmt/format.h>

#include <cstdint>
#include <iterator>

namespace lapidary {
namespace {

// Length of the UTF-8 sequence at `text`, or 0 if it is none (overlong forms and surrogates
// included).
size_t utf8_length(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  const size_t n = lead < 0x80                   ? 1
                   : lead >= 0xC2 && lead < 0xE0 ? 2
                   : (lead & 0xF0) == 0xE0       ? 3
                   : lead >= 0xF0 && lead < 0xF5 ? 4
                                                 : 0;
  if (n == 0 || n > text.size()) return 0;
  for (size_t i = 1; i < n; ++i)
    if ((byte(i) & 0xC0) != 0x80) return 0;
  if (n == 3 && ((lead == 0xE0 && byte(1) < 0xA0) || (lead == 0xED && byte(1) >= 0xA0))) return 0;
  if (n == 4 && ((lead == 0xF0 && byte(1) < 0x90) || (lead == 0xF4 && byte(1) >= 0x90))) return 0;
  return n;
}

}  // namespace

std::string escape_xml(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const size_t n = utf8_length(text);
    const char c = text.front();
    if (n == 0 ||
        (n == 1 && (static_cast<uint8_t>(c) < 0x20 || c == 0x7F) && c != '\n' && c != '\t')) {
      out += "\xEF\xBF\xBD";  // U+FFFD
    } else if (n == 1 && c == '&') {
      out += "&amp;";
    } else if (n == 1 && c == '<') {
      out += "&lt;";
    } else if (n == 1 && c == '>') {
      out += "&gt;";
    } else if (n == 1 && c == '"') {
      out += "&quot;";
    } else if (n == 1 && c == '\'') {
      out += "&#39;";
    } else {
      out += text.substr(0, n);
    }
    text.remove_prefix(n == 0 ? 1 : n);
  }
  return out;
}

std::string_view svg_style() {
  return R"(svg{--ink:#1c2330;--soft:#5d6778;--rule:#dfe3ea;--accent:#3b5bdb;--other:#0c8599;--pass:#2b8a3e;
--fail:#c92a2a;--unsure:#b35c00;--zone:#2b8a3e1f;--bar:#748ffc}
@media(prefers-color-scheme:dark){svg{--ink:#e8ecf4;--soft:#9aa5b8;--rule:#313a4a;--accent:#91a7ff;
--other:#66d9e8;--pass:#69db7c;--fail:#ff8787;--unsure:#ffc078;--zone:#69db7c22;--bar:#5c7cfa}}
svg text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",sans-serif;fill:var(--ink)}
svg .soft{fill:var(--soft)}svg .strong{font-weight:600}svg .big{font-size:14px}
svg .grid{stroke:var(--rule)}svg .axis{stroke:var(--soft)}
svg .mark{stroke:var(--ink);stroke-dasharray:3 3}svg .bar{fill:var(--bar)}svg .zone{fill:var(--zone)}
svg .curve{fill:none;stroke-width:2;stroke-linejoin:round}svg .whisker{stroke-width:2.5;stroke-linecap:round}
svg .s0{stroke:var(--accent)}svg .s1{stroke:var(--other)}svg .s2{stroke:var(--unsure)}svg .s3{stroke:var(--fail)}
svg .f0{fill:var(--accent)}svg .f1{fill:var(--other)}svg .f2{fill:var(--unsure)}svg .f3{fill:var(--fail)}
svg .pass{stroke:var(--pass)}svg .fail{stroke:var(--fail)}svg .unsure{stroke:var(--unsure)}
svg .heat{fill:var(--accent)}svg .h0{fill-opacity:.08}svg .h1{fill-opacity:.2}svg .h2{fill-opacity:.34}
svg .h3{fill-opacity:.48}svg .h4{fill-opacity:.66}svg .h5{fill-opacity:.88}
svg .dot.pass{fill:var(--pass)}svg .dot.fail{fill:var(--fail)}svg .dot.unsure{fill:var(--unsure)}
)";
}

Svg::Svg(double width, double height, std::string_view description)
    : width_(width), height_(height), description_(description) {}

void Svg::line(double x1, double y1, double x2, double y2, std::string_view css) {
  fmt::format_to(std::back_inserter(body_),
                 "<line x1=\"{:.2f}\" y1=\"{:.2f}\" x2=\"{:.2f}\" y2=\"{:.2f}\" class=\"{}\"/>\n",
                 x1, y1, x2, y2, css);
}

void Svg::rect(double x, double y, double width, double height, std::string_view css, double radius,
               std::string_view hint) {
  fmt::format_to(std::back_inserter(body_),
                 "<rect x=\"{:.2f}\" y=\"{:.2f}\" width=\"{:.2f}\" height=\"{:.2f}\" rx=\"{:.2f}\" "
                 "class=\"{}\">{}</rect>\n",
                 x, y, width, height, radius, css,
                 hint.empty() ? std::string() : "<title>" + escape_xml(hint) + "</title>");
}

void Svg::circle(double x, double y, double radius, std::string_view css) {
  fmt::format_to(std::back_inserter(body_),
                 "<circle cx=\"{:.2f}\" cy=\"{:.2f}\" r=\"{:.2f}\" class=\"{}\"/>\n", x, y, radius,
                 css);
}

void Svg::polyline(std::span<const std::pair<double, double>> points, std::string_view css) {
  body_ += "<polyline points=\"";
  for (const auto& [x, y] : points)
    fmt::format_to(std::back_inserter(body_), "{:.2f},{:.2f} ", x, y);
  fmt::format_to(std::back_inserter(body_), "\" class=\"{}\"/>\n", css);
}

void Svg::text(double x, double y, std::string_view text, std::string_view css,
               std::string_view anchor) {
  fmt::format_to(std::back_inserter(body_),
                 "<text x=\"{:.2f}\" y=\"{:.2f}\" text-anchor=\"{}\" class=\"{}\">{}</text>\n", x,
                 y, anchor, css, escape_xml(text));
}

std::string Svg::open(bool standalone) const {
  const std::string description = escape_xml(description_);
  return fmt::format(
      "<svg{} viewBox=\"0 0 {:.0f} {:.0f}\" width=\"{:.0f}\" height=\"{:.0f}\" role=\"img\" "
      "aria-label=\"{}\">\n<title>{}</title>\n",
      standalone ? " xmlns=\"http://www.w3.org/2000/svg\"" : "", width_, height_, width_, height_,
      description, description);
}

std::string Svg::str() const { return open(false) + body_ + "</svg>\n"; }

std::string Svg::standalone() const {
  return open(true) + "<style>" + std::string(svg_style()) + "</style>\n" + body_ + "</svg>\n";
}

}  // namespace lapidary
