// Two renderings of the same marks.
#include "tools/preview_page.h"

#include <fmt/format.h>

#include "tools/report/html.h"
#include "tools/report/svg.h"

namespace lapidary {
namespace {

std::string title_of(const PreviewExample& e) {
  return fmt::format("{} line {} ({}): {} tokens, {} learned", e.path, e.line, e.form, e.n_tokens,
                     e.n_learned);
}

// Text from strangers must not move the cursor.
std::string harmless(const std::string& text) {
  std::string out;
  for (const char c : text)
    if (static_cast<unsigned char>(c) >= 32 || c == '\n' || c == '\t') out += c;
  return out;
}

}  // namespace

std::string preview_text(std::span<const PreviewExample> examples, bool coloured) {
  std::string out;
  for (const PreviewExample& e : examples) {
    out += (coloured ? "\033[1m" : "") + title_of(e) + (coloured ? "\033[0m" : "") + "\n";
    for (const PreviewPiece& piece : e.pieces) {
      const char* begin =
          coloured ? (piece.learned ? "\033[32m" : "\033[90m") : (piece.learned ? "[[" : "");
      const char* end = coloured ? "\033[0m" : (piece.learned ? "]]" : "");
      out += begin + harmless(piece.text) + end;
    }
    out += "\n\n";
  }
  return out;
}

std::string preview_html(std::span<const PreviewExample> examples) {
  std::string body = html_paragraph(
      "Marked text is learned: the loss is taken on it. Everything else is only read.");
  for (const PreviewExample& e : examples) {
    std::string text;
    for (const PreviewPiece& piece : e.pieces)
      text +=
          piece.learned ? "<mark>" + escape_xml(piece.text) + "</mark>" : escape_xml(piece.text);
    body += "<figure><pre style=\"white-space:pre-wrap;margin:0\">" + text + "</pre><figcaption>" +
            escape_xml(title_of(e)) + "</figcaption></figure>\n";
  }
  return html_page("Training examples", body);
}

}  // namespace lapidary
