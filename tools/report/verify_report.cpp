// One section per function, in the order of the page.
#include "tools/report/verify_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tools/report/chart.h"
#include "tools/report/html.h"

namespace lapidary {
namespace {

constexpr double kOpen = std::numeric_limits<double>::infinity();

const char* css_of(Verdict verdict) {
  return verdict == Verdict::kPass ? "pass" : verdict == Verdict::kFail ? "fail" : "unsure";
}

// Negative numbers with a true minus sign: it is as wide as the plus beside it.
std::string signed_number(double value, int decimals) {
  const std::string text = fmt::format("{:+.{}f}", value, decimals);
  return text[0] == '-' ? "\xE2\x88\x92" + text.substr(1) : text;
}
std::string interval_text(double low, double high, int decimals) {
  return signed_number(low, decimals) + " to " + signed_number(high, decimals);
}
std::string small(double value) { return value == 0 ? "0" : fmt::format("{:.3g}", value); }
std::string percent(double share) { return fmt::format("{:.1f} %", 100 * share); }

std::string banner(const VerifyResult& result) {
  const char* sentence = result.identical ? "Both sides are the same model with the same options."
                         : result.verdict == Verdict::kPass
                             ? "No measure lost more than its margin, even at its worst bound."
                         : result.verdict == Verdict::kFail
                             ? "At least one measure lost more than its margin, beyond chance."
                             : "The measurements are too few to tell a loss from chance.";
  return fmt::format("<div class=\"banner {}\"><b>{}</b><p>{}</p></div>\n", css_of(result.verdict),
                     verdict_name(result.verdict), sentence);
}

// judge() sorts its reasons by severity, so counting the verdicts gives each sentence its colour.
std::string reasons(const VerifyResult& result) {
  std::vector<Verdict> verdicts;
  if (result.text) verdicts.push_back(judge_text(result));
  for (const auto& [name, task] : result.tasks) verdicts.push_back(judge_task(result, name));
  const auto rank = [](Verdict v) {
    return v == Verdict::kFail ? 0 : v == Verdict::kInconclusive ? 1 : 2;
  };
  std::sort(verdicts.begin(), verdicts.end(),
            [&](Verdict a, Verdict b) { return rank(a) < rank(b); });
  std::string out = "<ul class=\"reasons\">\n";
  for (size_t i = 0; i < result.reasons.size(); ++i)
    out += fmt::format("<li class=\"{}\">{}</li>\n", i < verdicts.size() ? css_of(verdicts[i]) : "",
                       escape_xml(result.reasons[i]));
  return out + "</ul>\n";
}

std::string text_section(const VerifyResult& result, const VerifyLabels& labels) {
  const TextComparison& text = *result.text;
  const double loss = text.nll_candidate - text.nll_base;
  std::string out = html_heading("Text");
  out += html_tiles({
      {"Tokens compared", grouped(text.tokens), labels.text_source},
      {"Base, nats per token", fmt::format("{:.4f}", text.nll_base),
       fmt::format("perplexity {:.2f}", std::exp(text.nll_base))},
      {"Candidate, nats per token", fmt::format("{:.4f}", text.nll_candidate),
       fmt::format("perplexity {:.2f}", std::exp(text.nll_candidate))},
      {"Difference", signed_number(loss, 4),
       "95 %: " + interval_text(text.interval[0], text.interval[1], 4)},
      {"Divergence (KLD), mean", small(text.kld_mean),
       "median: " + small(text.kld_median) + ", 99\u00A0%: " + small(text.kld_p99)},
      {"Same top token", percent(text.top1_agreement), "of all positions"},
  });

  IntervalPlot plot;
  plot.title = "Loss on text against the margin";
  plot.x_label = "candidate \xE2\x88\x92 base, nats per token (right is worse)";
  plot.rows.push_back({"text", "", loss, text.interval[0], text.interval[1], -kOpen,
                       result.margins.nats, css_of(judge_text(result))});
  out += html_figure(
      draw(plot).str(),
      "The dot is the measured loss, the line its 95 % interval. It passes when the whole line "
      "ends inside the green zone, left of the dashed margin.");

  if (text.kld.empty() || result.identical) return out;
  Histogram kld;
  kld.title = "Divergence of each token";
  kld.x_label = "KLD(base || candidate), nats, logarithmic";
  kld.values = text.kld;
  kld.logarithmic = true;
  kld.marks = {{"median", text.kld_median}, {"mean", text.kld_mean}, {"99 %", text.kld_p99}};
  out += html_figure(draw(kld).str(),
                     "How far the candidate's whole distribution over the vocabulary strays from "
                     "the base's, token "
                     "by token. A long tail to the right means few tokens, changed much.");
  Histogram difference;
  difference.title = "Loss of each token";
  difference.x_label = "candidate \xE2\x88\x92 base, nats (right is worse)";
  difference.values = text.nll_difference;
  difference.marks = {{"mean", loss}};
  out += html_figure(draw(difference).str(),
                     "A narrow, symmetric shape around zero is noise that averages out; a lean to "
                     "the right is a loss. "
                     "The outermost 0.5 % on each side are drawn in the last bars.");
  return out;
}

// Tasks in the order of the map, the pooled row last.
std::vector<std::string> task_order(const VerifyResult& result) {
  std::vector<std::string> names;
  for (const auto& [name, task] : result.tasks)
    if (name != kPooledName) names.push_back(name);
  if (result.tasks.contains(kPooledName)) names.push_back(kPooledName);
  return names;
}

std::string tasks_section(const VerifyResult& result, const VerifyLabels& labels) {
  std::string out = html_heading("Tasks");
  if (!labels.tasks_source.empty())
    out += html_paragraph("Items from " + labels.tasks_source + ".");
  std::vector<std::vector<HtmlCell>> rows;
  IntervalPlot plot;
  plot.title = "Accuracy of each task against its margin";
  plot.x_label = "candidate \xE2\x88\x92 base, points (left is worse)";
  for (const std::string& name : task_order(result)) {
    const TaskComparison& task = result.tasks.at(name);
    const Verdict verdict = judge_task(result, name);
    const double low = 100 * task.interval[0], high = 100 * task.interval[1];
    rows.push_back({{name == kPooledName ? "all, pooled" : name, ""},
                    {grouped(task.items), "number"},
                    {percent(task.base), "number"},
                    {percent(task.candidate), "number"},
                    {signed_number(100 * task.difference, 2), "number"},
                    {interval_text(low, high, 2), "number"},
                    {fmt::format("{} / {}", task.base_only, task.candidate_only), "number"},
                    {std::string(verdict_name(verdict)), std::string("pill ") + css_of(verdict)}});
    plot.rows.push_back({name == kPooledName ? "all, pooled" : name, "", 100 * task.difference, low,
                         high, -100 * task_margin(result, name), kOpen, css_of(verdict)});
  }
  out += html_figure(
      draw(plot).str(),
      "Difference of accuracy with its 95 % interval (Tango's score interval for paired answers). "
      "It "
      "passes when the whole line starts inside the green zone, right of the dashed margin.");
  out += html_table({{"Task", ""},
                     {"Items", "number"},
                     {"Base", "number"},
                     {"Candidate", "number"},
                     {"Points", "number"},
                     {"95 % interval", "number"},
                     {"Lost / gained", "number"},
                     {"Verdict", ""}},
                    rows);
  return out;
}

std::string how_to_read(const VerifyResult& result) {
  std::string out = html_heading("How to read this");
  out += html_paragraph(
      fmt::format("Both models saw the same tokens and the same items, so every number is a paired "
                  "difference. The margins were "
                  "set before measuring: {} nats per token, {} points per task, {} points over all "
                  "items pooled.",
                  result.margins.nats, 100 * result.margins.task, 100 * result.margins.pooled));
  out += html_paragraph(
      "PASS means that even the worst bound of every 95 % interval is within its margin. FAIL "
      "means that a loss is "
      "larger than its margin and its interval excludes zero. INCONCLUSIVE means neither: more "
      "text or more items "
      "would decide, and the reasons say how many.");
  out += html_paragraph(
      "What is not in the text or the tasks was not tested. A pass speaks for inputs like these.");
  return out;
}

}  // namespace

std::string verify_html(const VerifyResult& result, const VerifyLabels& labels) {
  std::string body = "<p class=\"eyebrow\">Lapidary verify</p>\n<h1>" +
                     escape_xml(labels.candidate.name) + " against " +
                     escape_xml(labels.base.name) + "</h1>\n";
  body += banner(result);
  body += "<div class=\"cards\">\n" + html_card("Base", labels.base.name, labels.base.facts) +
          html_card("Candidate", labels.candidate.name, labels.candidate.facts) + "</div>\n";
  body += html_heading("Why") + reasons(result);
  if (result.text) body += text_section(result, labels);
  if (!result.tasks.empty()) body += tasks_section(result, labels);
  body += how_to_read(result);
  if (!labels.made_by.empty())
    body += "<footer>Made by " + escape_xml(labels.made_by) + ".</footer>\n";
  return html_page(std::string(verdict_name(result.verdict)) + ": " + labels.candidate.name +
                       " against " + labels.base.name,
                   body);
}

}  // namespace lapidary
