// Any bytes as the body of a request: every endpoint reads it or it is an Error, and what was read
// can be written as an answer.
#include <cstdint>
#include <string_view>

#include "formats/error.h"
#include "runtime/server/chat_writer.h"
#include "runtime/server/messages.h"
#include "runtime/server/responses.h"
#include "runtime/server/stop_text.h"

namespace {

using namespace lapidary;
using namespace lapidary::server;

// A writer says the same answer whole and piece by piece.
void write_answer(AnswerWriter& whole, AnswerWriter& stream, int n) {
  Answer answer;
  answer.reply.content = "text \xc3\xa9";
  answer.reply.calls.push_back({"f", "{\"a\":1}", true});
  const std::vector<Answer> answers(static_cast<size_t>(n), answer);
  whole.whole(answers, {});
  std::string out;
  stream.begin(1, out);
  using Kind = ReplyDelta::Kind;
  for (const ReplyDelta& delta :
       {ReplyDelta{Kind::kContent, "text"}, ReplyDelta{Kind::kCallBegin, "f", 0},
        ReplyDelta{Kind::kCallArguments, "{\"a\":1}", 0}, ReplyDelta{Kind::kCallEnd, "", 0}})
    stream.delta(n - 1, delta, {}, out);
  stream.end_answer(n - 1, answer, out);
  stream.end(answers, {}, out);
}

template <class F>
void attempt(F&& f) {
  try {
    f();
  } catch (const Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  attempt([&] {
    const ChatAsk chat = read_chat(Fields::parse(body));
    write_answer(*make_chat_writer(chat, "m"), *make_chat_writer(chat, "m"), chat.ask.n);
    StopText stop(chat.ask.stop);
    stop.push(body);
    stop.finish();
  });
  attempt([&] {
    const ResponseAsk asked = read_response(Fields::parse(body));
    write_answer(*make_response_writer(asked, "m"), *make_response_writer(asked, "m"), 1);
  });
  attempt([&] {
    read_messages(Fields::parse(body), false);
    write_answer(*make_messages_writer("m"), *make_messages_writer("m"), 1);
  });
  return 0;
}
