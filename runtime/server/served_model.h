// What the APIs need of a model and of the collection of models: an interface, so that tests of the
// APIs bring a model of their own.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/grammar/rule.h"
#include "runtime/scheduler/request.h"
#include "runtime/scheduler/scheduler.h"
#include "runtime/text/chat_template.h"
#include "runtime/text/reply_parser.h"
#include "runtime/text/tokenizer.h"

namespace lapidary::server {

// Thread-safe.
class ServedModel {
 public:
  virtual ~ServedModel() = default;
  virtual const Tokenizer& tokenizer() const = 0;
  virtual int64_t vocab_size() const = 0;
  virtual int64_t d_model() const = 0;
  virtual int64_t context() const = 0;  // tokens of a prompt and its answer
  virtual int32_t bos_id() const = 0;   // -1: none
  virtual const std::vector<int32_t>& stop_ids() const = 0;
  virtual SamplingOptions sampling() const = 0;  // the model's own defaults
  // Throws kUsage when there is no chat template, kBadData from within it.
  virtual std::string render(const ChatRequest& request) const = 0;
  virtual ReplyFormat reply_format() const = 0;
  // Compiled rules are kept under `key`. Throws as Constraint::compile().
  virtual std::shared_ptr<const Constraint> constraint(const std::string& key,
                                                       const Rule& rule) = 0;
  virtual RequestId submit(Request request) = 0;  // as Scheduler
  virtual void cancel(RequestId id) = 0;
};

struct ModelUse {
  std::string name;  // as asked
  std::shared_ptr<ServedModel> model;
  std::shared_ptr<const Adapter> adapter;  // null: the base
};

struct ModelEntry {
  std::string name;
  std::string parent;   // of an adapter: its model
  int64_t created = 0;  // seconds since 1970
  bool is_loaded = false;
  int64_t context = 0;
};

class ModelDirectory {
 public:
  virtual ~ModelDirectory() = default;
  virtual std::vector<ModelEntry> list() const = 0;
  // Loads the model if need be, which may take a while; as long as the use is held it stays.
  // Throws ApiError 404 for an unknown name, 503 when memory does not suffice now.
  virtual ModelUse use(const std::string& name) = 0;  // empty: the first of list()
  // Of loaded models, by name.
  virtual std::vector<std::pair<std::string, SchedulerCounters>> counters() const = 0;
};

}  // namespace lapidary::server
