// Many models by name: loaded when they are asked for, kept for a while, put out when others need the memory.
//
// Any thread may call anything here. acquire() may take as long as a model takes to load.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "engine/engine.h"
#include "engine/model_library.h"
#include "model/adapter.h"
#include "model/encoder.h"

namespace hearth {

// A model in memory. What is held by acquire() is never put out.
struct LoadedModel {
  std::string name, digest, system, parameters_json;  // as ModelSource has them
  // One of the two.
  std::unique_ptr<Engine> engine;
  std::unique_ptr<Encoder> encoder;
  // Of the engine's model, by the names requests use, in the order they were given.
  std::vector<std::pair<std::string, std::shared_ptr<const Adapter>>> adapters;
  int64_t memory_bytes = 0;  // what the loader planned, or what it says it took
  // Null: none of that name.
  [[nodiscard]] std::shared_ptr<const Adapter> adapter(std::string_view name_of) const {
    for (const auto& [each, adapter] : adapters)
      if (each == name_of) return adapter;
    return nullptr;
  }
};

// How the catalog gets a model into memory; handed in by whoever knows threads, context and backend. Called without locks, by
// the thread that acquires.
struct ModelLoader {
  // Bytes of weights, keys and values and scratch that load() will take, if there is room.
  std::function<Result<int64_t>(const ModelSource&)> planned_bytes;
  // What ModelSource has is the catalog's; memory_bytes 0 means as planned. `process_bytes`: that the whole process may have
  // resident, which the model is made to fit into; 0: no bound.
  std::function<Result<std::unique_ptr<LoadedModel>>(const ModelSource&, uint64_t process_bytes)> load;
};

// How long a model stays after its last use: 0 not at all, kForever until its memory is needed.
using KeepAlive = std::chrono::seconds;
inline constexpr KeepAlive kForever{-1};

struct CatalogOptions {
  ModelLoader loader;
  // One of the two, or none. For all models together: one that does not fit is refused.
  int64_t memory_bytes_max = 0;
  // For the whole process: models that do not fit are made to.
  uint64_t process_bytes_max = 0;
  KeepAlive keep_alive = std::chrono::minutes(5);
  // The adapters that load() looks for, and the family of models that each is for.
  std::map<std::string, std::string> adapters{};
};

struct LoadedState {
  std::shared_ptr<const LoadedModel>
      model;  // to look at its engine's figures; hold it briefly, for it keeps the memory
  int holders = 0;
  std::optional<std::chrono::system_clock::time_point>
      expires;  // empty: never; of a model in use as if it were let go now
};

// A model that nobody holds, for choose_evicted().
struct IdleModel {
  size_t index = 0;
  int64_t bytes = 0;
  bool forever = false;
  std::chrono::steady_clock::time_point last_use;
};
// Which of them to put out so that `missing` bytes get free, first those not kept forever, each time the one used least recently.
// Empty if all together are not enough.
std::vector<size_t> choose_evicted(std::vector<IdleModel> idle, int64_t missing);

// What each of several models gets of `bytes`, given what each would take: all of it, or each the same part.
std::vector<int64_t> share_memory(std::span<const int64_t> wanted, int64_t bytes);

class Catalog {
 public:
  static std::unique_ptr<Catalog> create(std::shared_ptr<const ModelLibrary> library, CatalogOptions options);
  // Models that are still held live on until they are let go.
  ~Catalog();
  Catalog(const Catalog&) = delete;
  Catalog& operator=(const Catalog&) = delete;

  // The model, loaded if it was not; of several that ask for the same one, one loads and the others wait. `keep_alive`: from now
  // on instead of the usual. kNotFound; kLimit if it can never fit in the memory for models; kBusy with the numbers if it does
  // not fit beside those that are in use; what load() says.
  Result<std::shared_ptr<LoadedModel>> acquire(std::string_view name, std::optional<KeepAlive> keep_alive = {});
  // Puts a model out, at once or when the last holder lets go. False: it was not loaded.
  bool unload(std::string_view name);
  // A new bound for the memory of the whole process. Models that are idle, and not kept for ever, go until the others fit; if they do
  // not, these have to give way (Engine::set_memory), each before its next step, and grow when there is room again.
  void set_memory(uint64_t process_bytes);
  [[nodiscard]] std::vector<LoadedState> loaded() const;  // by name
  // For a further model without any being put out; empty: memory has no bound.
  [[nodiscard]] std::optional<int64_t> room_bytes() const;
  [[nodiscard]] const ModelLibrary& library() const { return *library_; }
  [[nodiscard]] const std::map<std::string, std::string>& adapters() const { return options_.adapters; }
  [[nodiscard]] std::vector<ListedModel> list() const { return library_->list(); }

 private:
  struct Slot;
  struct Shared;
  struct Lease;
  Catalog(std::shared_ptr<const ModelLibrary> library, CatalogOptions options);
  Result<std::shared_ptr<LoadedModel>> load(const std::shared_ptr<Slot>& slot);
  Result<void> make_room(const std::shared_ptr<Slot>& slot, int64_t bytes);
  void share(std::unique_lock<std::mutex>& lock);
  [[nodiscard]] int64_t models_bytes_max() const;

  std::shared_ptr<const ModelLibrary> library_;
  CatalogOptions options_;
  const uint64_t code_bytes_;  // that the program has resident of files which are no models
  std::shared_ptr<Shared> shared_;
  std::jthread clock_;  // puts out what was not used for long; sleeps until the next is due
};

}  // namespace hearth
