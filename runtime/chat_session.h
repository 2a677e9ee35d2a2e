// A conversation with a model: history, template, and a cache that is reused from turn to turn.
//
// Each turn the whole conversation is rendered and tokenized again; the longest common prefix with
// what the cache holds is kept, the rest is computed. That is exact whatever the template rewrites,
// and costs only the new tokens in the usual case.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/engine.h"
#include "runtime/generate.h"
#include "runtime/session_file.h"
#include "runtime/text/chat_template.h"
#include "runtime/text/reply_parser.h"

namespace lapidary {

struct ChatOptions {
  std::string system;      // empty: none
  std::string tools_json;  // array of declarations, or empty
  int64_t context = 4096;  // tokens that the conversation may hold
  KvOptions kv;
  GenerateOptions generate;
};

struct ChatReply {
  std::vector<int32_t> prompt;  // all tokens before the reply
  int64_t reused = 0;           // of these, already in the cache
  GenerateResult result;
  std::string text;  // special tokens kept, stop token dropped
  Reply parsed;      // the same taken apart, where tools are declared
};

class ChatSession {
 public:
  // Throws kUsage when the model has no chat template.
  ChatSession(Engine& engine, const ChatOptions& options);
  ChatSession(ChatSession&&) noexcept;
  ~ChatSession();

  // History and cache to a file and back; `adapter` is the adapter_identity() in use. Throw as
  // save_session() and SessionFile::restore(). REQUIRES of load: nothing was said yet.
  void save(const std::string& path, const std::string& adapter) const;
  void load(const SessionFile& file, const std::string& adapter);

  // Adds the user's message, generates the answer and adds it to the history. `on_text` receives
  // pieces of the answer as they become certain.
  ChatReply say(std::string_view user, const std::function<void(std::string_view)>& on_text,
                const Events& events);
  // Adds the results of the calls of the last answer, one for each, and generates as say().
  // REQUIRES: it had that many.
  ChatReply observe(std::span<const std::string> results,
                    const std::function<void(std::string_view)>& on_text, const Events& events);
  // How answers are taken apart: kPlain where no tools are declared.
  ReplyFormat format() const;
  std::string_view prompt_tail() const;  // the end of the last rendered prompt

 private:
  struct State;
  ChatReply answer(const std::function<void(std::string_view)>& on_text, const Events& events);
  std::unique_ptr<State> state_;
};

// Generates from a finished prompt and decodes as it goes.
std::string generate_text(Engine& engine, Sequence& sequence, std::span<const int32_t> prompt,
                          GenerateOptions options, const Events& events, GenerateResult& result,
                          const std::function<void(std::string_view)>& on_text);

}  // namespace lapidary
