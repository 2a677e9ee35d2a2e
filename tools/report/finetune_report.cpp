// One figure per measure that the log holds.
#include "tools/report/finetune_report.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "formats/error.h"
#include "tools/report/chart.h"
#include "tools/report/html.h"
#include "tools/report/svg.h"

namespace lapidary {
namespace {

using Points = std::vector<std::pair<double, double>>;

struct Log {
  std::vector<nlohmann::json> steps, evaluations;
};

Log parse(const std::string& text) {
  Log log;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    nlohmann::json json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object() || !json.contains("step"))
      fail(ErrorCode::kBadData, "the log of the run has a line that is not its own");
    (json.contains("gate") ? log.evaluations : log.steps).push_back(std::move(json));
  }
  return log;
}

Points points(const std::vector<nlohmann::json>& lines, const char* name) {
  Points points;
  for (const nlohmann::json& line : lines)
    if (line.contains(name) && line.at(name).is_number())
      points.push_back({line.at("step").get<double>(), line.at(name).get<double>()});
  return points;
}

// Ends of an interval: [low, high].
Points ends(const std::vector<nlohmann::json>& lines, const char* name, size_t end) {
  Points points;
  for (const nlohmann::json& line : lines)
    if (line.contains(name) && line.at(name).is_array() && line.at(name).size() == 2 &&
        line.at(name)[end].is_number())
      points.push_back({line.at("step").get<double>(), line.at(name)[end].get<double>()});
  return points;
}

// The mean of neighbours: single steps jump about.
Points smooth(const Points& raw) {
  const size_t half = raw.size() / 40;
  Points out;
  for (size_t i = 0; i < raw.size(); ++i) {
    const size_t first = i - std::min(i, half), end = std::min(i + half + 1, raw.size());
    double sum = 0;
    for (size_t j = first; j < end; ++j) sum += raw[j].second;
    out.push_back({raw[i].first, sum / static_cast<double>(end - first)});
  }
  return out;
}

std::string figure(LineChart chart, const std::string& caption) {
  chart.x_label = "step";
  for (const LineSeries& series : chart.series)
    if (!series.points.empty()) return html_figure(draw(chart).str(), caption);
  return {};
}

LineChart chart(const char* title, const char* y_label, std::vector<LineSeries> series) {
  LineChart chart;
  chart.title = title;
  chart.y_label = y_label;
  chart.series = std::move(series);
  return chart;
}

// A curve, its interval, and the limit beyond which the gate fails.
std::string gate_figure(const Log& log, const char* value, const char* interval, double limit,
                        LineChart chart, const std::string& caption) {
  const Points curve = points(log.evaluations, value);
  if (curve.empty()) return {};
  chart.series = {{"against step 0", curve},
                  {"95 % interval", ends(log.evaluations, interval, 0)},
                  {"", ends(log.evaluations, interval, 1)},
                  {"tolerated", {{curve.front().first, limit}, {curve.back().first, limit}}}};
  return figure(std::move(chart), caption);
}

std::string tiles(const FinetunePage& page, const Log& log) {
  const auto number = [](const nlohmann::json& line, const char* name) {
    return line.contains(name) && line.at(name).is_number()
               ? fmt::format("{:.4f}", line.at(name).get<double>())
               : std::string("-");
  };
  std::vector<HtmlTile> tiles{
      {"Steps", fmt::format("{}", log.steps.size()),
       page.stopped_early ? "stopped early by the gate" : "all of them"},
      {"Loss", number(log.steps.back(), "loss"), "from " + number(log.steps.front(), "loss")},
      {"Kept", fmt::format("step {}", page.kept_step), "the adapter written"}};
  for (const nlohmann::json& e : log.evaluations)
    if (e.at("step").get<int64_t>() == page.kept_step) {
      if (e.contains("domain_loss"))
        tiles.push_back({"Held-out domain loss", number(e, "domain_loss"), "of the kept adapter"});
      if (e.contains("general_rise"))
        tiles.push_back({"General loss", number(e, "general_rise"), "rise in nats per token"});
    }
  return html_tiles(tiles);
}

}  // namespace

std::string finetune_html(const FinetunePage& page) {
  const Log log = parse(page.log);
  if (log.steps.empty()) fail(ErrorCode::kBadData, "the log of the run holds no steps");
  const Points loss = points(log.steps, "loss");
  std::string body = tiles(page, log);
  body += figure(
      chart("Training loss", "nats per token", {{"each step", loss}, {"smoothed", smooth(loss)}}),
      "Mean over the learned tokens of a step.");
  body += figure(chart("Held-out domain data", "nats per token",
                       {{"loss", points(log.evaluations, "domain_loss")}}),
                 "Examples of --eval-data, which are not trained on.");
  body += gate_figure(log, "general_rise", "general_interval", page.gate_nats,
                      chart("Held-out general data", "rise of the loss, nats per token", {}),
                      "The gate fails where the whole interval lies above what is tolerated.");
  body += gate_figure(log, "task_difference", "task_interval", -page.gate_points,
                      chart("Tasks", "share answered rightly, difference", {}),
                      "The gate fails where the whole interval lies below what is tolerated.");
  body += figure(chart("KL divergence from the base", "nats per token",
                       {{"training", points(log.steps, "kl")},
                        {"held out", points(log.evaluations, "general_kl")}}),
                 "On general tokens: how far the tuned model's predictions went from the base's.");
  body +=
      figure(chart("Gradient norm", "before clipping", {{"norm", points(log.steps, "grad_norm")}}),
             "Of all adapter tensors together.");
  body += figure(chart("Learning rate", "", {{"rate", points(log.steps, "lr")}}), "");
  if (!page.facts.empty()) body += html_card("The run", page.output_name, page.facts);
  return html_page("Fine-tuning: " + page.output_name, body);
}

}  // namespace lapidary
