// Several models by name, each loaded when first asked for and unloaded when another needs its
// memory and nobody uses it.
//
// What a model would take is known before it is loaded; a request that would go over the limit is
// refused with 503 while the others are in use. Names are the operator's: no request names a file.
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/server/loaded_model.h"

namespace lapidary::server {

struct PoolModel {
  std::string name, path;
  std::string assistant = {};  // path of the one that guesses for it; empty: none
};
struct PoolAdapter {
  std::string name, folder;
  std::string model;  // the name of its base
};

struct PoolOptions {
  std::vector<PoolModel> models;  // the first is what requests without a name get
  std::vector<PoolAdapter> adapters;
  uint64_t memory_bytes = 0;  // of all loaded models
  LoadOptions load;
  std::function<void(const std::string&)> on_note;  // what the operator should know; any thread
};

class ModelPool : public ModelDirectory {
 public:
  // Looks at every file, loads the first model. Throws kUsage for names that repeat or are not
  // known, what Model::load() and Adapter::load() throw, kOutOfMemory when the first is too large.
  explicit ModelPool(PoolOptions options);
  // Cancels what runs. Exchanges may be answered on the way.
  ~ModelPool() override;

  std::vector<ModelEntry> list() const override;
  ModelUse use(const std::string& name) override;
  std::vector<std::pair<std::string, SchedulerCounters>> counters() const override;

 private:
  struct Slot {
    PoolModel what;
    int64_t created = 0;
    std::shared_ptr<LoadedModel> loaded;  // null: not now
    uint64_t bytes = 0;                   // of the loaded one
    uint64_t last_use = 0;                // by count of uses
  };
  Slot& slot_of(const std::string& model);
  std::shared_ptr<LoadedModel> loaded(Slot& slot);
  void make_room(const Slot& slot, uint64_t bytes);
  void load(Slot& slot);
  void note(const std::string& text) const {
    if (options_.on_note) options_.on_note(text);
  }

  const PoolOptions options_;
  std::mutex load_mutex_;     // one load at a time
  mutable std::mutex mutex_;  // of the slots; never held for long
  std::vector<Slot> slots_;
  uint64_t n_uses_ = 0;
};

}  // namespace lapidary::server
