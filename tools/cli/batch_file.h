// The two files of `run --batch`: requests, one JSON object a line, and answers, appended as they
// come.
//
// A request has "prompt" (a user's message, or plain text without a template) or "messages", an
// optional "id" (text or a whole number; else its line number) and options that differ from the
// command line's. Answers carry the id, so their order does not matter, and a run that was stopped
// goes on where the file of answers ends.
#pragma once

#include <cstdint>
#include <fstream>
#include <set>
#include <string>

#include "runtime/sampling.h"

namespace lapidary {

struct BatchRequest {
  std::string id;
  int64_t line = 0;      // 1-based
  std::string prompt;    // empty when there are messages
  std::string messages;  // JSON array; empty when there is a prompt
  int64_t max_tokens = 0;
  SamplingOptions sampling;
};

// What holds where a line says nothing.
struct BatchDefaults {
  int64_t max_tokens = 256;
  SamplingOptions sampling;
};

// Reads requests line by line; empty lines count but ask for nothing.
class BatchInput {
 public:
  // Throws kNotFound.
  BatchInput(const std::string& path, const BatchDefaults& defaults);
  // False at the end. Throws kBadData naming the line and what is wrong with it.
  bool next(BatchRequest& request);
  // Reads all lines: throws as next(), and for an id that comes twice. Returns their number.
  static int64_t check(const std::string& path, const BatchDefaults& defaults);

 private:
  std::string path_;
  std::ifstream in_;
  BatchDefaults defaults_;
  int64_t line_ = 0;
};

// Appends lines of JSON.
class BatchOutput {
 public:
  // Keeps the whole lines that are there, and cuts a torn last one. Throws kBadData for a file that
  // is something else, kIo.
  explicit BatchOutput(const std::string& path);
  BatchOutput(const BatchOutput&) = delete;
  BatchOutput& operator=(const BatchOutput&) = delete;
  ~BatchOutput();
  const std::set<std::string>& finished() const { return finished_; }  // ids with an answer
  void append(const std::string& json);                                // one line; throws kIo
  void sync();                                                         // until it is on the disk

 private:
  std::string path_;
  int fd_ = -1;
  std::set<std::string> finished_;
};

}  // namespace lapidary
