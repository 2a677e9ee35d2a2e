// One turn, question Q and answer A, in every form of training data that has turns.
#pragma once

namespace lapidary {

inline constexpr const char* kOneTurnInEveryForm[] = {
    R"({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]})",
    R"({"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]})",
    R"({"instruction": "Q", "input": "", "output": "A"})",
    R"({"prompt": "Q", "completion": "A"})",
    R"({"task": "t", "user": "Q", "answer": "A"})",
};

}  // namespace lapidary
