#include "engine/catalog.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/log.h"
#include "base/process_memory.h"
#include "model/memory_budget.h"

namespace hearth {

using Clock = std::chrono::steady_clock;

// One model that is loaded or being loaded.
struct Catalog::Slot {
  ModelSource source;
  std::shared_ptr<LoadedModel> model;  // null while loading
  std::optional<Error> failure;        // why it could not be loaded, for those who waited
  bool loading = true;
  int64_t bytes = 0;
  int holders = 0;  // leases, and who waits for one
  KeepAlive keep_alive{};
  Clock::time_point last_use = Clock::now();

  [[nodiscard]] bool idle() const { return !loading && holders == 0; }
};

// What outlives the catalog while models are held.
struct Catalog::Shared {
  std::mutex mutex;
  std::condition_variable_any changed;
  std::vector<std::shared_ptr<Slot>> slots;
  int64_t leaving_bytes = 0;  // of models that are being put out just now
  uint64_t n_changes = 0;

  void note_change() {
    ++n_changes;
    changed.notify_all();
  }
  // Destroys models, without the lock: an engine waits for its thread.
  void put_out(std::unique_lock<std::mutex>& lock, std::vector<std::shared_ptr<Slot>> doomed) {
    int64_t bytes = 0;
    for (const auto& slot : doomed) {
      std::erase(slots, slot);
      bytes += slot->bytes;
      LOG(kInfo, "model {} is put out, {} bytes", slot->source.name, slot->bytes);
    }
    leaving_bytes += bytes;
    lock.unlock();
    doomed.clear();
    lock.lock();
    leaving_bytes -= bytes;
    note_change();
  }
  // Puts out what was not used for as long as it may stay; returns when the next is due.
  std::optional<Clock::time_point> put_out_expired(std::unique_lock<std::mutex>& lock) {
    std::vector<std::shared_ptr<Slot>> expired;
    std::optional<Clock::time_point> next;
    for (const auto& slot : slots) {
      if (!slot->idle() || slot->keep_alive == kForever) continue;
      const Clock::time_point due = slot->last_use + slot->keep_alive;
      if (due <= Clock::now())
        expired.push_back(slot);
      else
        next = next ? std::min(*next, due) : due;
    }
    if (expired.empty()) return next;
    put_out(lock, std::move(expired));
    return Clock::now();
  }
};

struct Catalog::Lease {
  Lease(std::shared_ptr<Shared> s, std::shared_ptr<Slot> of)
      : shared(std::move(s)), slot(std::move(of)), model(slot->model) {}
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  ~Lease() {
    const std::scoped_lock lock(shared->mutex);
    --slot->holders;
    slot->last_use = Clock::now();
    shared->note_change();
  }
  std::shared_ptr<Shared> shared;
  std::shared_ptr<Slot> slot;
  std::shared_ptr<LoadedModel> model;
};

std::vector<size_t> choose_evicted(std::vector<IdleModel> idle, int64_t missing) {
  std::ranges::sort(idle, {}, [](const IdleModel& model) { return std::pair(model.forever, model.last_use); });
  std::vector<size_t> chosen;
  for (const IdleModel& model : idle) {
    if (missing <= 0) break;
    chosen.push_back(model.index);
    missing -= model.bytes;
  }
  if (missing > 0) chosen.clear();
  return chosen;
}

std::vector<int64_t> share_memory(std::span<const int64_t> wanted, int64_t bytes) {
  int64_t all = 0;
  for (const int64_t each : wanted) all += each;
  const double part = all > bytes ? static_cast<double>(std::max<int64_t>(bytes, 0)) / static_cast<double>(all) : 1;
  std::vector<int64_t> shares;
  for (const int64_t each : wanted)
    shares.push_back(part < 1 ? static_cast<int64_t>(part * static_cast<double>(each)) : each);
  return shares;
}

Catalog::Catalog(std::shared_ptr<const ModelLibrary> library, CatalogOptions options)
    : library_(std::move(library)),
      options_(std::move(options)),
      code_bytes_(resident_memory().files),
      shared_(std::make_shared<Shared>()) {}

std::unique_ptr<Catalog> Catalog::create(std::shared_ptr<const ModelLibrary> library, CatalogOptions options) {
  std::unique_ptr<Catalog> catalog(new Catalog(std::move(library), std::move(options)));
  catalog->clock_ = std::jthread([shared = catalog->shared_](const std::stop_token& stop) {
    std::unique_lock lock(shared->mutex);
    while (!stop.stop_requested()) {
      const auto next = shared->put_out_expired(lock);
      const auto changed = [&, seen = shared->n_changes] { return shared->n_changes != seen; };
      if (next)
        shared->changed.wait_until(lock, stop, *next, changed);
      else
        shared->changed.wait(lock, stop, changed);
    }
  });
  return catalog;
}

Catalog::~Catalog() {
  clock_.request_stop();
  if (clock_.joinable()) clock_.join();
  std::vector<std::shared_ptr<Slot>> all;
  const std::scoped_lock lock(shared_->mutex);
  all.swap(shared_->slots);
}

Result<std::shared_ptr<LoadedModel>> Catalog::acquire(std::string_view name, std::optional<KeepAlive> keep_alive) {
  const ModelSource source = TRY(library_->find(name));
  std::unique_lock lock(shared_->mutex);
  std::shared_ptr<Slot> slot;
  for (const auto& other : shared_->slots) {
    if (other->source.name != source.name) continue;
    if (other->source.digest == source.digest && other->source.path == source.path)
      slot = other;
    else
      other->keep_alive = KeepAlive(0);  // what the name meant before
  }
  const bool first = !slot;
  if (first) {
    slot = std::make_shared<Slot>();
    slot->source = source;
    slot->keep_alive = options_.keep_alive;
    shared_->slots.push_back(slot);
  }
  ++slot->holders;
  if (keep_alive) slot->keep_alive = *keep_alive < KeepAlive(0) ? kForever : *keep_alive;
  if (first) {
    lock.unlock();
    auto loaded = load(slot);
    lock.lock();
    slot->loading = false;
    if (loaded) {
      slot->model = std::move(*loaded);
      slot->bytes = slot->model->memory_bytes;
      share(lock);
    } else {
      slot->failure = loaded.error();
      std::erase(shared_->slots, slot);
    }
    shared_->note_change();
  }
  shared_->changed.wait(lock, [&] { return !slot->loading; });
  if (slot->failure) return std::unexpected(*slot->failure);
  const auto lease = std::make_shared<Lease>(shared_, slot);
  return std::shared_ptr<LoadedModel>(lease, lease->model.get());
}

Result<std::shared_ptr<LoadedModel>> Catalog::load(const std::shared_ptr<Slot>& slot) {
  int64_t planned = TRY(options_.loader.planned_bytes(slot->source));
  uint64_t process_bytes = 0;
  {
    const std::scoped_lock lock(shared_->mutex);
    process_bytes = options_.process_bytes_max;
    if (process_bytes > 0) planned = std::min(planned, models_bytes_max());
  }
  TRY(make_room(slot, planned));
  std::shared_ptr<LoadedModel> model = TRY(options_.loader.load(slot->source, process_bytes));
  model->name = slot->source.name;
  model->digest = slot->source.digest;
  model->system = slot->source.system;
  model->parameters_json = slot->source.parameters_json;
  if (model->memory_bytes == 0) model->memory_bytes = planned;
  LOG(kInfo, "model {} is loaded, {} bytes", model->name, model->memory_bytes);
  return model;
}

// Takes the memory for a model that is about to be loaded.
Result<void> Catalog::make_room(const std::shared_ptr<Slot>& slot, int64_t bytes) {
  std::unique_lock lock(shared_->mutex);
  const int64_t most = models_bytes_max();
  if (most > 0 && bytes > most)
    return fail(Code::kLimit,
                "model {} needs {} bytes, all models together may take {}; use a smaller --context, "
                "fewer --parallel, or a model of fewer bits",
                slot->source.name, bytes, most);
  for (;;) {
    int64_t used = shared_->leaving_bytes;
    std::vector<IdleModel> idle;
    std::vector<std::string> busy;
    for (size_t i = 0; i < shared_->slots.size(); ++i) {
      const Slot& other = *shared_->slots[i];
      used += other.bytes;
      if (other.idle())
        idle.push_back({i, other.bytes, other.keep_alive == kForever, other.last_use});
      else if (&other != slot.get())
        busy.push_back(fmt::format("{} ({} bytes)", other.source.name, other.bytes));
    }
    if (most == 0 || used + bytes <= most) {
      slot->bytes = bytes;
      return {};
    }
    std::vector<std::shared_ptr<Slot>> doomed;
    for (const size_t index : choose_evicted(std::move(idle), used + bytes - most))
      doomed.push_back(shared_->slots[index]);
    if (!doomed.empty())
      shared_->put_out(lock, std::move(doomed));
    else if (shared_->leaving_bytes > 0)
      shared_->changed.wait(lock);
    else
      return fail(Code::kBusy,
                  "model {} needs {} bytes, of {} for all models {} are taken, in use: {}; try again later",
                  slot->source.name, bytes, most, used, fmt::join(busy, ", "));
  }
}

// What models may take, with the lock held; 0: as much as they like.
int64_t Catalog::models_bytes_max() const {
  if (options_.process_bytes_max == 0) return options_.memory_bytes_max;
  uint64_t program = resident_memory().own + code_bytes_ + kWorkBytes;
  for (const auto& slot : shared_->slots)
    if (!slot->loading && slot->model->engine) program -= std::min(program, slot->model->engine->stats().own_bytes);
  const auto all = static_cast<int64_t>(std::min<uint64_t>(options_.process_bytes_max, INT64_MAX));
  return std::max<int64_t>(1, all - static_cast<int64_t>(program));
}

// Models that were not to be kept go if that helps; what is left shares.
void Catalog::share(std::unique_lock<std::mutex>& lock) {
  if (options_.process_bytes_max == 0) return;
  const int64_t most = models_bytes_max();
  int64_t wanted = 0;
  std::vector<IdleModel> idle;
  for (size_t i = 0; i < shared_->slots.size(); ++i) {
    const Slot& slot = *shared_->slots[i];
    wanted += slot.loading ? slot.bytes : slot.model->memory_bytes;
    if (slot.idle() && slot.keep_alive != kForever) idle.push_back({i, slot.model->memory_bytes, false, slot.last_use});
  }
  std::vector<std::shared_ptr<Slot>> doomed;
  const std::vector<size_t> enough = choose_evicted(idle, wanted - most);
  for (const IdleModel& model : idle)  // all, where that is not enough
    if (wanted > most && (enough.empty() || std::ranges::find(enough, model.index) != enough.end()))
      doomed.push_back(shared_->slots[model.index]);
  if (!doomed.empty()) shared_->put_out(lock, std::move(doomed));
  std::vector<Slot*> loaded;
  std::vector<int64_t> sizes;
  int64_t left = models_bytes_max();  // what went may have taken more than it was thought to
  for (const auto& slot : shared_->slots) {
    if (slot->loading || !slot->model->engine) {
      left -= slot->bytes;
      continue;
    }
    loaded.push_back(slot.get());
    sizes.push_back(slot->model->memory_bytes);
  }
  const std::vector<int64_t> shares = share_memory(sizes, left);
  for (size_t i = 0; i < loaded.size(); ++i) {
    loaded[i]->bytes = shares[i];
    loaded[i]->model->engine->set_memory(static_cast<uint64_t>(shares[i]));
  }
}

void Catalog::set_memory(uint64_t process_bytes) {
  std::unique_lock lock(shared_->mutex);
  options_.process_bytes_max = process_bytes;
  share(lock);
}

bool Catalog::unload(std::string_view asked) {
  const auto source = library_->find(asked);
  const std::string_view name = source ? std::string_view(source->name) : asked;  // it may be gone from the store
  std::unique_lock lock(shared_->mutex);
  bool found = false;
  for (const auto& slot : shared_->slots) {
    if (slot->source.name != name) continue;
    slot->keep_alive = KeepAlive(0);
    found = true;
  }
  if (found) shared_->put_out_expired(lock);
  return found;
}

std::optional<int64_t> Catalog::room_bytes() const {
  const std::scoped_lock lock(shared_->mutex);
  const int64_t most = models_bytes_max();
  if (most == 0) return std::nullopt;
  int64_t used = shared_->leaving_bytes;
  for (const auto& slot : shared_->slots) used += slot->bytes;
  return std::max<int64_t>(0, most - used);
}

std::vector<LoadedState> Catalog::loaded() const {
  std::vector<LoadedState> all;
  const std::scoped_lock lock(shared_->mutex);
  const auto now = Clock::now();
  for (const auto& slot : shared_->slots) {
    if (slot->loading) continue;
    LoadedState state{.model = slot->model, .holders = slot->holders, .expires = {}};
    const Clock::duration left = slot->keep_alive - (slot->holders > 0 ? Clock::duration(0) : now - slot->last_use);
    if (slot->keep_alive != kForever)
      state.expires = std::chrono::system_clock::now() + std::max(left, Clock::duration(0));
    all.push_back(std::move(state));
  }
  std::ranges::sort(all, {}, [](const LoadedState& state) { return std::string_view(state.model->name); });
  return all;
}

}  // namespace hearth
