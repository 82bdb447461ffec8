#include "serve/door_record.h"

#include <boost/json.hpp>

#include "base/json.h"
#include "base/limits.h"

namespace hearth::serve {
namespace {

namespace json = boost::json;
constexpr std::chrono::minutes kKeptFor{15};
constexpr uint64_t kHeadBytes = 64u << 10;

uint64_t cost(const AnswerRecord& record) { return record.origin.body.size() + 1024; }

// A field that is there has to be right.
template <typename T>
bool read(const json::object& object, std::string_view name, T& into) {
  const json::value* value = object.if_contains(name);
  if (!value || value->is_null()) return true;
  auto read = json::try_value_to<T>(*value);
  if (read) into = std::move(*read);
  return read.has_value();
}

}  // namespace

std::string to_bytes(const AnswerRecord& record) {
  const AnswerOrigin& origin = record.origin;
  json::object head{{"request_id", record.request_id},
                    {"tenant", record.identity.tenant},
                    {"key", record.identity.key_sha256},
                    {"models", json::value_from(record.identity.models)},
                    {"class", name(record.identity.class_max)},
                    {"path", record.path},
                    {"model", record.model},
                    {"digest", record.digest},
                    {"reach", name(record.reach)},
                    {"id", origin.id},
                    {"created", origin.created},
                    {"seed", origin.seed},
                    {"told", json::value_from(origin.told)},
                    {"numbered", origin.numbered}};
  if (origin.deadline_seconds) head["deadline_seconds"] = *origin.deadline_seconds;
  if (!origin.answered_by.empty()) head["answered_by"] = origin.answered_by;
  return json::serialize(head) + "\n" + origin.body;
}

Result<AnswerRecord> parse_record(std::string_view bytes) {
  const size_t end = std::min(bytes.find('\n'), bytes.size());
  const json::value value = TRY(parse_json(bytes.substr(0, end), {.depth = 4, .bytes = kHeadBytes}));
  const json::object* head = value.if_object();
  if (!head || end == bytes.size()) return fail(Code::kMalformed, "a request's record is no line of JSON and a body");
  AnswerRecord record;
  AnswerOrigin& origin = record.origin;
  std::string class_max = "batch", reach = "local-only";
  double deadline = -1;
  Identity& identity = record.identity;
  if (!read(*head, "request_id", record.request_id) || !read(*head, "tenant", identity.tenant) ||
      !read(*head, "key", identity.key_sha256) || !read(*head, "models", identity.models) ||
      !read(*head, "class", class_max) || !read(*head, "path", record.path) || !read(*head, "model", record.model) ||
      !read(*head, "digest", record.digest) || !read(*head, "reach", reach) || !read(*head, "id", origin.id) ||
      !read(*head, "created", origin.created) || !read(*head, "seed", origin.seed) ||
      !read(*head, "told", origin.told) || !read(*head, "numbered", origin.numbered) ||
      !read(*head, "deadline_seconds", deadline) || !read(*head, "answered_by", origin.answered_by))
    return fail(Code::kMalformed, "a request's record has a field of the wrong type");
  if (origin.told.size() > limits::kChoices * limits::kChoices || origin.id.empty() || record.path.empty())
    return fail(Code::kMalformed, "a request's record lacks its id or path, or has too many counts");
  for (const int64_t count : origin.told)
    if (count < 0) return fail(Code::kMalformed, "a request's record has a count of {}", count);
  identity.class_max = TRY(parse_request_class(class_max));
  record.reach = TRY(parse_reach(reach));
  if (deadline >= 0) origin.deadline_seconds = deadline;
  origin.body = bytes.substr(end + 1);
  return record;
}

void RecordStore::drop_old() {
  const auto now = clock_();
  while (!order_.empty() && (now - order_.front().second > kKeptFor || entries_.size() > limits::kDoorRecords ||
                             bytes_ > limits::kDoorRecordBytes)) {
    const auto entry = entries_.find(order_.front().first);
    if (entry != entries_.end() && entry->second.since == order_.front().second) {
      bytes_ -= cost(*entry->second.record);
      entries_.erase(entry);
    }
    order_.pop_front();
  }
}

void RecordStore::put(std::shared_ptr<const AnswerRecord> record) {
  const std::scoped_lock lock(mutex_);
  const Name name{record->owner(), record->request_id};
  const auto now = clock_();
  Entry& entry = entries_[name];
  if (entry.record) bytes_ -= cost(*entry.record);
  bytes_ += cost(*record);
  entry = {std::move(record), now};
  order_.emplace_back(name, now);
  drop_old();
}

std::shared_ptr<const AnswerRecord> RecordStore::find(const std::string& owner, const std::string& request_id) {
  const std::scoped_lock lock(mutex_);
  drop_old();
  const auto entry = entries_.find({owner, request_id});
  return entry == entries_.end() ? nullptr : entry->second.record;
}

size_t RecordStore::size() const {
  const std::scoped_lock lock(mutex_);
  return entries_.size();
}

}  // namespace hearth::serve
