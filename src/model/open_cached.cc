#include "model/open_cached.h"

#include <algorithm>
#include <charconv>

#include "base/file_io.h"
#include "base/limits.h"
#include "base/log.h"
#include "model/gguf.h"
#include "model/pack.h"
#include "model/pack_import.h"

namespace hearth {
namespace {

namespace fs = std::filesystem;

// What stays free on a disk that a pack goes to.
constexpr uint64_t kSpareBytes = 64 << 20;

Result<void> check_room(const PackCache& cache, uint64_t bytes) {
  if (bytes > cache.limit_bytes())
    return fail(Code::kLimit, "a pack of {} bytes is over the cache's limit of {} (hearth cache --limit)", bytes,
                cache.limit_bytes());
  const uint64_t free = TRY(free_disk_bytes(cache.folder()));
  if (free < bytes + kSpareBytes)
    return fail(Code::kLimit, "{}: {} bytes are free, a pack needs {}", cache.folder().string(), free,
                bytes + kSpareBytes);
  return {};
}

// Makes the pack and opens it; while it was waited for its turn another process may have made it.
Result<Checkpoint> make(PackPlan& plan, const fs::path& place, const std::string& digest, const PackOptions& packs,
                        bool anew) {
  TRY(check_room(*packs.cache, plan.file_bytes()));
  PackClaim claim = TRY(packs.cache->claim(place));
  if (auto made = open_pack_of(place, digest); made && !anew) return made;
  auto show = [&](uint64_t done) {
    if (packs.progress) packs.progress(done, plan.file_bytes());
    return true;
  };
  TRY(plan.write(claim.fd(), claim.path(), packs.n_threads, show));
  TRY(packs.cache->publish(claim, place));
  packs.cache->remove(digest, place);  // those of other layouts
  (void)packs.cache->keep_limit();
  return open_pack_of(place, digest);
}

// "model-00001-of-00003.gguf" -> 3; 1 for other names.
uint32_t n_parts(const std::string& name) {
  constexpr std::string_view kEnd = "-00001-of-00000.gguf";
  uint32_t count = 0;
  if (name.size() < kEnd.size()) return 1;
  const std::string end = name.substr(name.size() - kEnd.size());
  if (!end.starts_with("-00001-of-") || !end.ends_with(".gguf")) return 1;
  std::from_chars(end.data() + 10, end.data() + 15, count);
  return std::clamp<uint32_t>(count, 1, limits::kSplitFiles);
}

}  // namespace

Result<std::vector<fs::path>> source_files(const fs::path& path) {
  std::error_code error;
  std::vector<fs::path> files;
  if (!fs::is_directory(path, error)) {
    const uint32_t count = n_parts(path.filename().string());
    for (uint32_t i = 0; i < count; ++i) files.push_back(count == 1 ? path : TRY(gguf_split_path(path, i, count)));
    return files;
  }
  for (fs::directory_iterator entry(path, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    const bool text = std::ranges::find(hf_text_files(), name) != hf_text_files().end();
    if (text || name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json"))
      files.push_back(entry->path());
  }
  if (error) return fail(Code::kIo, "{}: {}", path.string(), error.message());
  std::ranges::sort(files);
  return files;
}

std::string pack_layout() { return fmt::format("{}.{}", kPackFormatVersion, kPanelLayoutVersion); }

Result<Checkpoint> open_pack_of(const fs::path& place, std::string_view digest) {
  MappedFile file = TRY(MappedFile::open_in_use(place));
  const auto made_from = pack_source(file.bytes());
  if (made_from && to_hex(*made_from) != digest)
    return fail(Code::kCorrupt, "{}: it was made from another model", place.string());
  return open_pack(std::move(file));
}

Result<fs::path> pack_place(const fs::path& path, const PackCache& cache) {
  const std::vector<fs::path> files = TRY(source_files(path));
  return cache.place(TRY(cache.source_digest(files, {})), pack_layout());
}

Result<std::optional<Checkpoint>> open_cached(const fs::path& path, Backend& backend, const PackOptions& packs,
                                              bool anew) {
  const PackCache& cache = *packs.cache;
  const std::vector<fs::path> files = TRY(source_files(path));
  uint64_t total = 0;
  for (const fs::path& file : files) {
    const MappedFile mapped = TRY(MappedFile::open(file));
    if (has_pack_magic(mapped.bytes())) return std::nullopt;
    total += mapped.bytes().size();
  }
  auto show = [&](uint64_t done) {
    if (packs.progress) packs.progress(done, total);
    return true;
  };
  auto without = [&](const Error& error) -> Result<std::optional<Checkpoint>> {
    LOG(kWarning, "{}; the model is laid out in memory instead", error.message);
    return std::nullopt;
  };
  const auto digest = cache.source_digest(files, show);
  if (!digest) return without(digest.error());
  const fs::path place = cache.place(*digest, pack_layout());
  if (!anew) {
    auto pack = open_pack_of(place, *digest);
    if (pack) {
      cache.touch(place);
      return pack;
    }
    if (pack.error().code != Code::kNotFound) LOG(kWarning, "{}; it is made anew", pack.error().message);
    anew = pack.error().code != Code::kNotFound;
  }
  const Checkpoint original = TRY(open_checkpoint(path));
  auto plan = PackPlan::create(original, backend, TRY(digest_from_hex(*digest)));
  if (!plan) return within(path.string(), plan.error());
  auto made = make(*plan, place, *digest, packs, anew);
  if (!made) return without(made.error());
  return made;
}

}  // namespace hearth
