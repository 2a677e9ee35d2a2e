// Any bytes as a chat template: it renders a small chat or it is an Error, in bounded time.
#include <cstdint>
#include <string_view>

#include "formats/error.h"
#include "runtime/text/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lapidary;
  try {
    const ChatTemplate chat(std::string_view(reinterpret_cast<const char*>(data), size));
    ChatRequest request;
    request.messages_json =
        R"([{"role": "system", "content": "a"}, {"role": "user", "content": " é "},
            {"role": "assistant", "content": null, "tool_calls": [{"function":
             {"name": "f", "arguments": {"x": [1, 2.5, true, null, "y"]}}}]}])";
    request.tools_json =
        R"([{"type": "function", "function": {"name": "f", "description": "d",
             "parameters": {"properties": {"x": {"type": "array"}}, "required": ["x"]}}}])";
    chat.render(request, "<bos>", "<eos>");
  } catch (const Error&) {
  }
  return 0;
}
