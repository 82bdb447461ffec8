#include "store/key_ring.h"

#include <fmt/chrono.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/json.hpp>
#include <ctime>
#include <span>

#include "base/file_io.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "store/sha256.h"

namespace hearth {
namespace {
namespace json = boost::json;

constexpr std::array<std::string_view, 3> kClasses{"realtime", "interactive", "batch"};

std::string digest_of(std::string_view text) {
  Sha256 digest;
  digest.update(std::as_bytes(std::span(text)));
  return digest.hex();
}

bool is_name(std::string_view name) {
  return !name.empty() && name.size() <= 64 && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
           c == '.';
  });
}

Result<void> check(const KeyEntry& entry) {
  const KeyRights& rights = entry.rights;
  if (!is_name(entry.name))
    return fail(Code::kInvalidArgument, "key name '{}': want 1 to 64 letters, digits, '-', '_' or '.'", entry.name);
  if (!is_sha256(entry.sha256))
    return fail(Code::kInvalidArgument, "key {}: sha256 has to be 64 hex digits", entry.name);
  if (rights.requests_per_minute < 0 || rights.tokens_per_minute < 0 || rights.concurrent < 0)
    return fail(Code::kInvalidArgument, "key {}: a limit is negative", entry.name);
  if (std::ranges::find(kClasses, rights.class_max) == kClasses.end())
    return fail(Code::kInvalidArgument, "key {}: class '{}', want realtime, interactive or batch", entry.name,
                rights.class_max);
  return {};
}

json::object to_json(const KeyEntry& entry) {
  const KeyRights& rights = entry.rights;
  return {{"name", entry.name},
          {"sha256", entry.sha256},
          {"created", entry.created},
          {"models", json::value_from(rights.models)},
          {"requests_per_minute", rights.requests_per_minute},
          {"tokens_per_minute", rights.tokens_per_minute},
          {"concurrent", rights.concurrent},
          {"class", rights.class_max},
          {"admin", rights.admin}};
}

// A field that is there has to be right: rights that were misread would be too many.
template <typename T>
bool read(const json::object& object, std::string_view name, T& into) {
  const json::value* value = object.if_contains(name);
  if (!value) return true;
  auto read = json::try_value_to<T>(*value);
  if (read) into = std::move(*read);
  return read.has_value();
}

Result<KeyEntry> from_json(const json::value& value) {
  KeyEntry entry;
  KeyRights& rights = entry.rights;
  const json::object* object = value.if_object();
  if (!object || !read(*object, "name", entry.name) || !read(*object, "sha256", entry.sha256) ||
      !read(*object, "created", entry.created) || !read(*object, "models", rights.models) ||
      !read(*object, "requests_per_minute", rights.requests_per_minute) ||
      !read(*object, "tokens_per_minute", rights.tokens_per_minute) ||
      !read(*object, "concurrent", rights.concurrent) || !read(*object, "class", rights.class_max) ||
      !read(*object, "admin", rights.admin))
    return fail(Code::kMalformed, "key '{}' has a field of the wrong type", entry.name);
  TRY(check(entry));
  return entry;
}

// No early end, no branch on what is compared.
bool same(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  unsigned difference = 0;
  for (size_t i = 0; i < a.size(); ++i)
    difference |= static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b[i]);
  return difference == 0;
}

}  // namespace

Result<KeyRing> KeyRing::open(std::filesystem::path file) {
  KeyRing ring(std::move(file));
  std::error_code error;
  if (!std::filesystem::exists(ring.file_, error) && !error) return ring;
  const std::string text = TRY(read_file(ring.file_, limits::kManifestBytes));
  const auto root = parse_json(text);
  if (!root) return within(ring.file_.string(), root.error());
  const json::object* object = root->if_object();
  const json::value* list = object ? object->if_contains("keys") : nullptr;
  if (!list || !list->is_array()) return fail(Code::kMalformed, "{}: no list of keys", ring.file_.string());
  for (const json::value& each : list->get_array()) {
    auto entry = from_json(each);
    if (!entry) return within(ring.file_.string(), entry.error());
    ring.entries_.push_back(std::move(*entry));
  }
  return ring;
}

Result<std::string> KeyRing::add(std::string_view name, KeyRights rights) {
  if (std::ranges::find(entries_, name, &KeyEntry::name) != entries_.end())
    return fail(Code::kInvalidArgument, "there is a key {} already; revoke it first", name);
  std::array<unsigned char, 32> random{};
  if (::getentropy(random.data(), random.size()) != 0) return fail(Code::kIo, "the system gives no random bytes");
  std::string key = "hearth-";
  for (const unsigned char byte : random) key += fmt::format("{:02x}", byte);
  KeyEntry entry{.name = std::string(name),
                 .sha256 = digest_of(key),
                 .created = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr))),
                 .rights = std::move(rights)};
  TRY(check(entry));
  std::vector<KeyEntry> entries = entries_;
  entries.push_back(std::move(entry));
  TRY(write(std::move(entries)));
  return key;
}

Result<void> KeyRing::revoke(std::string_view name) {
  std::vector<KeyEntry> entries = entries_;
  if (std::erase_if(entries, [&](const KeyEntry& entry) { return entry.name == name; }) == 0)
    return fail(Code::kNotFound, "there is no key {}; hearth key list shows them", name);
  return write(std::move(entries));
}

Result<void> KeyRing::write(std::vector<KeyEntry> entries) {
  json::array list;
  for (const KeyEntry& entry : entries) list.push_back(to_json(entry));
  const std::string text = json::serialize(json::object{{"keys", std::move(list)}}) + "\n";
  std::error_code error;
  std::filesystem::create_directories(file_.parent_path(), error);
  TRY(write_file_atomically(file_, std::as_bytes(std::span(text)), 0600));
  TRY(flush(file_.parent_path()));
  entries_ = std::move(entries);
  return {};
}

const KeyEntry* KeyRing::find(std::string_view key) const {
  const std::string digest = digest_of(key);
  const KeyEntry* found = nullptr;
  for (const KeyEntry& entry : entries_) {
    if (same(entry.sha256, digest)) found = &entry;
  }
  return found;
}

}  // namespace hearth
