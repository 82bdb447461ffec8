#include "cluster/members.h"

#include <boost/json/serialize.hpp>

#include "base/json.h"
#include "cluster/authority.h"

namespace hearth::cluster {
namespace {

namespace json = boost::json;

constexpr uint64_t kBytesMax = 64u << 10;
constexpr size_t kListMax = 256, kTextMax = 256;

// Fields of an object that another machine wrote: what is missing keeps its default, what is wrong is remembered.
class Fields {
 public:
  explicit Fields(const json::object& object) : object_(object) {}
  void get(std::string_view name, std::string& out) {
    const json::value* value = object_.if_contains(name);
    if (!value) return;
    if (!value->is_string() || value->get_string().size() > kTextMax)
      wrong_ = name;
    else
      out = std::string(value->get_string());
  }
  void get(std::string_view name, bool& out) {
    if (const json::value* value = object_.if_contains(name))
      value->is_bool() ? void(out = value->get_bool()) : void(wrong_ = name);
  }
  void get(std::string_view name, double& out) {
    const json::value* value = object_.if_contains(name);
    if (!value) return;
    const double number = value->is_number() ? value->to_number<double>() : -1;
    if (!(number >= 0 && number <= 1e18))
      wrong_ = name;
    else
      out = number;
  }
  void get(std::string_view name, uint64_t& out) {
    const json::value* value = object_.if_contains(name);
    if (!value) return;
    boost::system::error_code error;
    const auto number = value->to_number<uint64_t>(error);
    if (error)
      wrong_ = name;
    else
      out = number;
  }
  void get(std::string_view name, int& out) {
    uint64_t number = static_cast<uint64_t>(out);
    get(name, number);
    if (number > 1'000'000)
      wrong_ = name;
    else
      out = static_cast<int>(number);
  }
  [[nodiscard]] Result<void> done() const {
    if (wrong_.empty()) return {};
    return fail(Code::kMalformed, "what a machine says of itself: \"{}\" is not what it has to be", wrong_);
  }

 private:
  const json::object& object_;
  std::string wrong_;
};

template <typename Read>
Result<void> read_list(const json::object& object, std::string_view name, const Read& read) {
  const json::value* value = object.if_contains(name);
  if (!value) return {};
  if (!value->is_array() || value->get_array().size() > kListMax)
    return fail(Code::kMalformed, "what a machine says of itself: \"{}\" has to be a list of at most {}", name,
                kListMax);
  for (const json::value& each : value->get_array()) {
    if (!each.is_object()) return fail(Code::kMalformed, "what a machine says of itself: \"{}\" holds no object", name);
    Fields fields(each.get_object());
    read(fields);
    TRY(fields.done());
  }
  return {};
}

}  // namespace

std::string to_json(const Member& m) {
  json::array models, stages;
  for (const MemberModel& model : m.models) models.push_back({{"name", model.name}, {"digest", model.digest}});
  for (const MemberStage& stage : m.stages)
    stages.push_back({{"owner", stage.owner},
                      {"model", stage.model},
                      {"first", stage.first},
                      {"end", stage.end},
                      {"epoch", stage.epoch},
                      {"steps", stage.steps}});
  return json::serialize(json::object{{"name", m.name},
                                      {"process", m.process},
                                      {"started", m.started},
                                      {"beat", m.beat},
                                      {"stages_at", m.stages_at},
                                      {"door", m.door},
                                      {"site_door", m.site_door},
                                      {"memory_bytes", m.memory_bytes},
                                      {"cores", m.cores},
                                      {"bytes_per_second", m.bytes_per_second},
                                      {"prompt_bytes_per_second", m.prompt_bytes_per_second},
                                      {"battery", m.battery},
                                      {"hot", m.hot},
                                      {"running", m.running},
                                      {"queued", m.queued},
                                      {"revoked", m.revoked},
                                      {"models", std::move(models)},
                                      {"stages", std::move(stages)}});
}

Result<Member> parse_member(std::string_view text) {
  const json::value parsed = TRY(parse_json(text, {.depth = 4, .bytes = kBytesMax}));
  const json::object* object = parsed.if_object();
  if (!object) return fail(Code::kMalformed, "what a machine says of itself is no object");
  Member m;
  Fields fields(*object);
  fields.get("name", m.name), fields.get("process", m.process), fields.get("started", m.started),
      fields.get("beat", m.beat);
  fields.get("stages_at", m.stages_at), fields.get("door", m.door);
  fields.get("site_door", m.site_door);
  fields.get("memory_bytes", m.memory_bytes), fields.get("cores", m.cores);
  fields.get("bytes_per_second", m.bytes_per_second);
  fields.get("prompt_bytes_per_second", m.prompt_bytes_per_second);
  fields.get("battery", m.battery), fields.get("hot", m.hot);
  fields.get("running", m.running), fields.get("queued", m.queued), fields.get("revoked", m.revoked);
  TRY(fields.done());
  TRY(check_machine_name(m.name));
  TRY(check_machine_name(m.process));
  TRY(read_list(*object, "models", [&](Fields& each) {
    MemberModel& model = m.models.emplace_back();
    each.get("name", model.name), each.get("digest", model.digest);
  }));
  TRY(read_list(*object, "stages", [&](Fields& each) {
    MemberStage& stage = m.stages.emplace_back();
    each.get("owner", stage.owner), each.get("model", stage.model);
    each.get("first", stage.first), each.get("end", stage.end);
    each.get("epoch", stage.epoch), each.get("steps", stage.steps);
  }));
  return m;
}

bool Members::heard(Member member, Time now) {
  auto place = members_.find(member.key());
  if (place == members_.end()) {
    if (members_.size() >= kMax)
      std::erase_if(members_, [&](const auto& each) { return now - each.second.heard > kGone; });
    if (members_.size() >= kMax) return false;
    place = members_.emplace(member.key(), Seen{}).first;
  }
  const Seen& seen = place->second;
  const auto before = std::pair(seen.member.started, seen.member.beat), news = std::pair(member.started, member.beat);
  // What a broker kept may be the very same heartbeat.
  if (seen.confirmed ? news <= before : news < before) return false;
  place->second = {.member = std::move(member), .heard = now, .confirmed = true};
  return true;
}

void Members::told(Member member, Time now) {
  if (members_.contains(member.key()) || members_.size() >= kMax) return;
  const std::string key = member.key();
  members_[key] = {.member = std::move(member), .heard = now, .confirmed = false};
}

void Members::left(const Member& member) {
  const auto place = members_.find(member.key());
  if (place != members_.end() && place->second.member.started <= member.started) members_.erase(place);
}

std::vector<Member> Members::snapshot(Time now) const {
  std::vector<Member> out;
  for (const auto& [key, seen] : members_)
    if (there(seen, now)) out.push_back(seen.member);
  return out;
}

std::vector<Members::Seen> Members::everybody(Time now) const {
  std::vector<Seen> out;
  for (const auto& [key, seen] : members_)
    if (now - seen.heard <= kForgotten) out.push_back(seen);
  return out;
}

}  // namespace hearth::cluster
