// Drawing in SVG: a handful of shapes, escaped text, colours by class.
//
// Colours are CSS classes (see svg_style()), so that one picture is right on light and dark pages.
// No scripts, no fonts, no external resources. Coordinates are CSS pixels, y downwards.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace lapidary {

// Text made safe for XML and HTML, attribute values included: & < > " ' become entities, control
// characters and bytes that are not UTF-8 become U+FFFD.
std::string escape_xml(std::string_view text);

// The classes and colours that pictures use, with their dark variants.
std::string_view svg_style();

class Svg {
 public:
  // `description` is what a screen reader says.
  Svg(double width, double height, std::string_view description);

  void line(double x1, double y1, double x2, double y2, std::string_view css);
  void rect(double x, double y, double width, double height, std::string_view css,
            double radius = 0, std::string_view hint = {});
  void circle(double x, double y, double radius, std::string_view css);
  void polyline(std::span<const std::pair<double, double>> points, std::string_view css);
  // `anchor`: "start", "middle" or "end".
  void text(double x, double y, std::string_view text, std::string_view css,
            std::string_view anchor = "start");

  std::string str() const;         // for a page that contains svg_style()
  std::string standalone() const;  // a file of its own

 private:
  std::string open(bool standalone) const;
  double width_, height_;
  std::string description_, body_;
};

}  // namespace lapidary
