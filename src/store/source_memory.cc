#include "store/source_memory.h"

#include <sys/stat.h>

#include <algorithm>
#include <boost/json.hpp>
#include <vector>

#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mapped_file.h"
#include "store/sha256.h"

namespace hearth {
namespace {
namespace json = boost::json;

struct Entry {
  SourceMemory::Identity identity{};
  std::string file, sha256;
};

std::vector<Entry> read_entries(const std::filesystem::path& path) {
  std::vector<Entry> entries;
  const auto text = read_file(path, limits::kManifestBytes * 4);
  const auto root = text ? parse_json(*text) : std::unexpected(text.error());
  const json::object* object = root ? root->if_object() : nullptr;
  const json::value* list = object ? object->if_contains("sources") : nullptr;
  if (!list || !list->is_array()) return entries;
  for (const json::value& each : list->get_array()) {
    const auto identity = json::try_value_to<SourceMemory::Identity>(
        each.is_object() && each.get_object().contains("identity") ? each.get_object().at("identity") : json::value());
    if (!identity) continue;
    const json::value *file = each.get_object().if_contains("file"), *sha256 = each.get_object().if_contains("sha256");
    if (!file || !file->is_string() || !sha256 || !sha256->is_string() || !is_sha256(sha256->get_string())) continue;
    entries.push_back({*identity, std::string(file->get_string()), std::string(sha256->get_string())});
  }
  return entries;
}

int64_t nanoseconds(const timespec& time) { return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec; }

}  // namespace

std::optional<SourceMemory::Identity> SourceMemory::identity(const std::filesystem::path& file) {
  struct stat status{};
  if (::stat(file.c_str(), &status) != 0) return std::nullopt;
  return Identity{static_cast<int64_t>(status.st_dev), static_cast<int64_t>(status.st_ino),
                  static_cast<int64_t>(status.st_size), nanoseconds(status.st_mtim), nanoseconds(status.st_ctim)};
}

std::optional<std::string> SourceMemory::find(const Identity& identity) const {
  for (const Entry& entry : read_entries(path_))
    if (entry.identity == identity) return entry.sha256;
  return std::nullopt;
}

void SourceMemory::remember(const Identity& identity, const std::filesystem::path& file,
                            const std::string& sha256) const {
  std::vector<Entry> entries = read_entries(path_);
  // An older state of the same file is never seen again.
  std::erase_if(entries,
                [&](const Entry& each) { return each.identity[0] == identity[0] && each.identity[1] == identity[1]; });
  if (entries.size() >= limits::kRememberedSources) entries.erase(entries.begin());
  entries.push_back({identity, file.string(), sha256});
  json::array list;
  for (const Entry& each : entries)
    list.push_back({{"identity", json::value_from(each.identity)}, {"sha256", each.sha256}, {"file", each.file}});
  const std::string text = json::serialize(json::object{{"sources", std::move(list)}});
  if (auto written = write_file_atomically(path_, std::as_bytes(std::span(text))); !written)
    LOG(kDebug, "{}", written.error().message);
}

}  // namespace hearth
