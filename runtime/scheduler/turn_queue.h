// Requests that wait: each account in the order of its own, accounts in turn.
//
// An account with a thousand requests delays one with a single request by one at most. Not
// thread-safe.
#pragma once

#include <deque>
#include <list>
#include <memory>
#include <string>

#include "runtime/scheduler/answer.h"

namespace lapidary {

class TurnQueue {
 public:
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  void push(std::unique_ptr<Answer> answer);
  // Whose turn it is. REQUIRES: not empty.
  const Answer& front() const { return *lines_.front().answers.front(); }
  // Takes it; the next account is at the front then.
  std::unique_ptr<Answer> pop();
  // Takes all for which leaves(answer).
  template <class F>
  std::deque<std::unique_ptr<Answer>> take_if(F&& leaves);

 private:
  struct Line {
    std::string account;
    std::deque<std::unique_ptr<Answer>> answers;  // not empty
  };
  std::list<Line> lines_;  // in the order of their turns
  size_t size_ = 0;
};

inline void TurnQueue::push(std::unique_ptr<Answer> answer) {
  ++size_;
  const std::string& account = answer->request().account;
  for (Line& line : lines_)
    if (line.account == account) {
      line.answers.push_back(std::move(answer));
      return;
    }
  lines_.push_back({account, {}});
  lines_.back().answers.push_back(std::move(answer));
}

inline std::unique_ptr<Answer> TurnQueue::pop() {
  Line& line = lines_.front();
  std::unique_ptr<Answer> answer = std::move(line.answers.front());
  line.answers.pop_front();
  --size_;
  if (line.answers.empty())
    lines_.pop_front();
  else
    lines_.splice(lines_.end(), lines_, lines_.begin());
  return answer;
}

template <class F>
std::deque<std::unique_ptr<Answer>> TurnQueue::take_if(F&& leaves) {
  std::deque<std::unique_ptr<Answer>> taken;
  for (auto line = lines_.begin(); line != lines_.end();) {
    std::deque<std::unique_ptr<Answer>> left;
    for (auto& answer : line->answers)
      (leaves(std::as_const(*answer)) ? taken : left).push_back(std::move(answer));
    line->answers = std::move(left);
    line = line->answers.empty() ? lines_.erase(line) : std::next(line);
  }
  size_ -= taken.size();
  return taken;
}

}  // namespace lapidary
