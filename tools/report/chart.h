// Charts for reports: curves, bars, histograms, and intervals against a margin.
//
// Each takes plain numbers and gives an Svg. Numbers that are not finite are left out.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tools/report/svg.h"

namespace lapidary {

// About `wanted` round numbers that cover [low, high].
std::vector<double> nice_ticks(double low, double high, int wanted);

struct LineSeries {
  std::string name;
  std::vector<std::pair<double, double>> points;  // by rising x
};
struct LineMark {
  std::string name;
  double x = 0, y = 0;
  bool strong = false;  // the one the picture is about
};
struct LineChart {
  std::string title, x_label, y_label;
  std::vector<LineSeries> series;  // four colours; more repeat them
  std::vector<LineMark> marks;     // points with names
  bool logarithmic = false;        // y; what is not positive is left out
  double width = 720, height = 300;
};
Svg draw(const LineChart& chart);

struct BarChart {
  std::string title, unit;
  std::vector<std::pair<std::string, double>> bars;  // drawn as rows, from zero
  double width = 720;
};
Svg draw(const BarChart& chart);

struct Histogram {
  std::string title, x_label;
  std::vector<float> values;
  // Logarithmic: one bar per quarter of a decade; what is below 1e-8 stands in a bar of its own.
  bool logarithmic = false;
  std::vector<std::pair<std::string, double>> marks;  // vertical lines with names
  double width = 720, height = 260;
};
Svg draw(const Histogram& chart);

struct IntervalRow {
  std::string label, note;
  double estimate = 0, low = 0, high = 0;
  double zone_low = 0, zone_high = 0;  // where the interval should lie; infinite: open
  std::string css = "s0";              // "pass", "fail", "unsure"
};
struct IntervalPlot {
  std::string title, x_label;
  std::vector<IntervalRow> rows;
  double width = 720;
};
Svg draw(const IntervalPlot& chart);

}  // namespace lapidary
