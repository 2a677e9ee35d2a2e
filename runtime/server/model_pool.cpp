// Two locks: one that a load holds for seconds, one that a look at the slots holds for
// microseconds.
#include "runtime/server/model_pool.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <chrono>
#include <set>
#include <thread>

#include "runtime/server/api_error.h"

namespace lapidary::server {
namespace {

constexpr auto kPatience = std::chrono::milliseconds(500);

int64_t modified_at(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) fail(ErrorCode::kNotFound, "{}: no such file", path);
  return info.st_mtime;
}

std::string size_text(uint64_t bytes) {
  return bytes < (1u << 30) ? fmt::format("{:.1f} MiB", double(bytes) / 0x1p20)
                            : fmt::format("{:.2f} GiB", double(bytes) / 0x1p30);
}

}  // namespace

ModelPool::ModelPool(PoolOptions options) : options_(std::move(options)) {
  if (options_.models.empty()) fail(ErrorCode::kUsage, "serve needs a model");
  std::set<std::string> names;
  const auto add_name = [&](const std::string& name) {
    if (name.empty() || !names.insert(name).second)
      fail(ErrorCode::kUsage, "the name \"{}\" is empty or given twice", name);
  };
  for (const PoolModel& model : options_.models) {
    add_name(model.name);
    slots_.push_back({model, modified_at(model.path), nullptr, 0, 0});
    if (!model.assistant.empty()) modified_at(model.assistant);
  }
  for (const PoolAdapter& adapter : options_.adapters) {
    add_name(adapter.name);
    slot_of(adapter.model);
    modified_at(adapter.folder);
  }
  try {
    load(slots_.front());
  } catch (const ApiError& e) {
    throw Error(ErrorCode::kOutOfMemory, e.what());
  }
  for (const PoolAdapter& adapter : options_.adapters)
    if (adapter.model == slots_.front().what.name) slots_.front().loaded->adapter(adapter.folder);
}

ModelPool::~ModelPool() {
  for (Slot& slot : slots_)
    if (slot.loaded) slot.loaded->close();
}

ModelPool::Slot& ModelPool::slot_of(const std::string& model) {
  for (Slot& slot : slots_)
    if (slot.what.name == model) return slot;
  fail(ErrorCode::kUsage, "an adapter is for the model \"{}\", which is not given", model);
}

std::vector<ModelEntry> ModelPool::list() const {
  std::lock_guard lock(mutex_);
  std::vector<ModelEntry> entries;
  const int64_t context = options_.load.scheduler.context;
  for (const Slot& slot : slots_) {
    const bool is_loaded = slot.loaded != nullptr;
    entries.push_back({slot.what.name, "", slot.created, is_loaded, context});
    for (const PoolAdapter& adapter : options_.adapters)
      if (adapter.model == slot.what.name)
        entries.push_back({adapter.name, adapter.model, slot.created, is_loaded, context});
  }
  return entries;
}

std::vector<std::pair<std::string, SchedulerCounters>> ModelPool::counters() const {
  std::vector<std::pair<std::string, std::shared_ptr<LoadedModel>>> loaded;
  {
    std::lock_guard lock(mutex_);
    for (const Slot& slot : slots_)
      if (slot.loaded) loaded.emplace_back(slot.what.name, slot.loaded);
  }
  std::vector<std::pair<std::string, SchedulerCounters>> out;
  for (const auto& [name, model] : loaded) out.emplace_back(name, model->counters());
  return out;
}

ModelUse ModelPool::use(const std::string& name) {
  if (name.empty()) return {slots_.front().what.name, loaded(slots_.front()), nullptr};
  for (Slot& slot : slots_)
    if (slot.what.name == name) return {name, loaded(slot), nullptr};
  for (const PoolAdapter& adapter : options_.adapters) {
    if (adapter.name != name) continue;
    const std::shared_ptr<LoadedModel> base = loaded(slot_of(adapter.model));
    return {name, base, base->adapter(adapter.folder)};
  }
  throw ApiError({404, "this server has no model of that name; GET /v1/models lists them", "model",
                  "model_not_found"});
}

std::shared_ptr<LoadedModel> ModelPool::loaded(Slot& slot) {
  const auto find = [&] {
    std::lock_guard lock(mutex_);
    slot.last_use = ++n_uses_;
    return slot.loaded;
  };
  if (auto model = find()) return model;
  std::lock_guard one_load(load_mutex_);
  if (auto model = find()) return model;
  try {
    load(slot);
  } catch (const ApiError&) {
    throw;
  } catch (const Error& e) {  // what it says may name files: that is the operator's to read
    note(fmt::format("{}: {}", slot.what.name, e.what()));
    if (e.code() == ErrorCode::kOutOfMemory)
      throw ApiError({503, fmt::format("no memory for the model {} now", slot.what.name)});
    throw ApiError({500, fmt::format("the model {} cannot be loaded", slot.what.name)});
  }
  return find();
}

// Unloads what nobody uses, the longest unused first, until `bytes` more fit. An answer that was
// just given may hold its model for a moment longer: hence the patience.
void ModelPool::make_room(const Slot& slot, uint64_t bytes) {
  if (options_.memory_bytes == 0) return;
  const auto patience_end = Clock::now() + kPatience;
  for (;;) {
    std::shared_ptr<LoadedModel> unloaded;
    std::string name;
    {
      std::unique_lock lock(mutex_);
      uint64_t used = 0;
      Slot* oldest = nullptr;
      for (Slot& other : slots_) {
        if (!other.loaded) continue;
        used += other.bytes;
        const bool is_idle = other.loaded.use_count() == 1;  // here alone
        if (is_idle && (!oldest || other.last_use < oldest->last_use)) oldest = &other;
      }
      if (used + bytes <= options_.memory_bytes) return;
      const bool can_fit = bytes <= options_.memory_bytes;
      if (can_fit && !oldest && used > 0 && Clock::now() < patience_end) {
        lock.unlock();
        std::this_thread::sleep_for(kPatience / 20);
        continue;
      }
      if (!oldest || !can_fit)
        throw ApiError(
            {503, fmt::format("no memory for the model {}: it takes {}, and {} of {} are "
                              "in use",
                              slot.what.name, size_text(bytes), size_text(used),
                              size_text(options_.memory_bytes))});
      unloaded = std::move(oldest->loaded);
      oldest->loaded = nullptr;
      name = oldest->what.name;
    }
    unloaded.reset();
    note(fmt::format("{} unloaded", name));
  }
}

void ModelPool::load(Slot& slot) {
  const std::shared_ptr<const Model> file = Model::load(slot.what.path);  // maps, touches little
  LoadOptions load = options_.load;
  load.assistant = slot.what.assistant;
  const uint64_t bytes = memory_bytes(*file, load);
  make_room(slot, bytes);
  auto model = std::make_shared<LoadedModel>(file, load);
  std::lock_guard lock(mutex_);
  slot.loaded = std::move(model);
  slot.bytes = bytes;
  slot.last_use = ++n_uses_;
}

}  // namespace lapidary::server
