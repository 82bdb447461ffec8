#include "serve/door_answer.h"

#include <algorithm>
#include <boost/json.hpp>
#include <ctime>
#include <random>
#include <thread>
#include <utility>

#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "serve/all.h"
#include "serve/door_exchange.h"
#include "serve/error.h"
#include "serve/fields.h"
#include "serve/openai_answer.h"
#include "serve/server.h"
#include "serve/stream_place.h"

namespace hearth::serve {
namespace {

namespace json = boost::json;
using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

// How long a request that had begun waits for a machine with room.
constexpr std::chrono::seconds kPatience{60};
constexpr milliseconds kAskAgain{200};
constexpr int kAnswerTokens = 256;  // of an answer whose length is not bounded, as a guess
constexpr int kBytesPerToken = 4;

uint64_t random_seed() {
  std::random_device device;
  return ((uint64_t{device()} << 32) | device()) >> 1;
}

double seconds_since(Clock::time_point then) { return std::chrono::duration<double>(Clock::now() - then).count(); }

bool is_plain(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c > ' ' && c <= '~'; });
}

std::string_view text_of(const json::object& object, std::string_view field) {
  const json::value* value = object.if_contains(field);
  return value && value->is_string() ? std::string_view(value->get_string()) : std::string_view();
}

}  // namespace

DoorAnswer::DoorAnswer(Server& server, Doors& doors, RouteCall call)
    : server_(server), doors_(doors), call_(std::move(call)) {}

// The request's name, and what its client has of the answer.
Result<void> DoorAnswer::read_names() {
  const HttpRequest& request = call_.exchange->request();
  const std::string_view key = request.header("idempotency-key");
  if (record_.request_id.empty()) record_.request_id = key.empty() ? request.header("x-request-id") : key;
  if (record_.request_id.size() > limits::kRequestIdBytes || !is_plain(record_.request_id))
    return fail(Code::kInvalidArgument, "Idempotency-Key and X-Request-Id: want at most {} letters, digits and signs",
                limits::kRequestIdBytes);
  numbered_ = !record_.request_id.empty();
  const std::string_view last = request.header("last-event-id");
  if (last.empty()) return {};
  if (!numbered_)
    return fail(Code::kInvalidArgument, "Last-Event-ID: say of which request, with Idempotency-Key or X-Request-Id");
  told_ = TRY(parse_place(last));
  return {};
}

Result<void> DoorAnswer::read_body(std::string_view body) {
  const json::value value = TRY(parse_json(body, {.depth = limits::kHttpJsonDepth, .bytes = limits::kJsonFileBytes}));
  if (!value.is_object()) return fail(Code::kInvalidArgument, "body: want an object, got {}", kind_of(value));
  body_ = value.get_object();
  Fields fields(body_);
  const HttpRequest& request = call_.exchange->request();
  record_.model = fields.text("model").value_or("");
  streamed_ = fields.flag("stream").value_or(false);
  const std::string policy = fields.text("policy").value_or(""), data = fields.text("data_class").value_or("");
  for (const std::string_view name : {"n_predict", "max_tokens", "max_completion_tokens"})
    if (const auto most = fields.integer(name, -1, 1 << 30); most && *most > 0)
      ask_.answer_tokens = static_cast<int>(*most);
  if (ask_.answer_tokens == 0) ask_.answer_tokens = chat_ ? kAnswerTokens : 16;
  if (const auto deadline = fields.number("deadline_ms", 0, 1e9)) ask_.deadline_seconds = *deadline / 1e3;
  // Which adapter a place means is each machine's own matter; frames between doors have no room for log probabilities of all tokens.
  anywhere_ = !fields.find("lora") && (streamed_ || !fields.find("logprobs"));
  TRY(fields.check());
  asked_model_ = record_.model.empty() ? server_.options().default_model : record_.model;
  resolve_model();
  const ReachWords said{.header = request.header("x-hearth-policy"),
                        .field = policy,
                        .class_header = request.header("x-hearth-data-class"),
                        .class_field = data};
  const ReachRules& rules = doors_.options().reach;
  record_.reach = std::min(TRY(allowed_reach(rules, call_.identity.tenant, record_.model, said)),
                           TRY(allowed_reach(rules, call_.identity.tenant, asked_model_, said)));
  read_prompt();
  return {};
}

void DoorAnswer::read_prompt() {
  const json::value* prompt = body_.if_contains(chat_ ? "messages" : "prompt");
  if (!prompt) return;
  prompt_ = prompt->is_string() ? std::string(prompt->get_string()) : json::serialize(*prompt);
  ask_.prompt_tokens = static_cast<int>(prompt_.size() / kBytesPerToken);
}

// The model's own name and digest, if it is here.
void DoorAnswer::resolve_model() {
  if (record_.model.empty()) record_.model = server_.options().default_model;
  const auto source = server_.catalog().library().find(record_.model);
  if (!source) return;
  record_.model = source->name;
  record_.digest = source->digest;
}

// True if the request came before, here or at another door: it gets the same answer.
Result<bool> DoorAnswer::take_up() {
  if (record_.request_id.empty()) return false;
  const std::string owner = AnswerRecord::owner_of(call_.identity);
  auto before = doors_.records().find(owner, record_.request_id);
  const HttpRequest& request = call_.exchange->request();
  const bool stays = !request.body.empty() && record_.reach == Reach::kLocal;
  const bool ask = !request.header("idempotency-key").empty() || !told_.empty() || !call_.parameters.empty();
  if (!before && ask && !stays)
    call_.exchange->run_waiting([&] { before = doors_.find_elsewhere(owner, record_.request_id); });
  if (!before) return false;
  if (!request.body.empty() && request.body != before->origin.body)
    return fail(Code::kInvalidArgument, "Idempotency-Key {}: came before, with another request", record_.request_id);
  if (before->path != "/v1/chat/completions" && before->path != "/v1/completions")
    return fail(Code::kMalformed, "Idempotency-Key {}: there is no answer to {}", record_.request_id, before->path);
  const Reach reach = request.body.empty() ? before->reach : std::min(before->reach, record_.reach);
  record_ = *before;
  record_.reach = reach;
  record_.identity = call_.identity;
  return true;
}

Result<void> DoorAnswer::prepare() {
  chat_ = call_.route == &kChat;
  TRY(read_names());
  TRY(read_body(call_.exchange->request().body));
  if (TRY(take_up())) {
    doors_.counter("hearth_door_resumes_total", "Requests that came again, and got the same answer").add();
  } else {
    record_.identity = call_.identity;
    record_.path = call_.route->path;
    record_.origin = {.id = random_id(), .created = std::time(nullptr), .seed = random_seed()};
    record_.origin.body = call_.exchange->request().body;
  }
  return {};
}

Result<void> DoorAnswer::prepare_resume(std::string request_id) {
  record_.request_id = std::move(request_id);
  TRY(read_names());
  if (!TRY(take_up()))
    return fail(Code::kNotFound, "no door knows the request {}; send it again whole", record_.request_id);
  call_.route = record_.path == kChat.path ? &kChat : &kCompletions;
  call_.record->operation = "chat";
  chat_ = call_.route == &kChat;
  const AnswerRecord kept = record_;
  TRY(read_body(kept.origin.body));
  const Reach reach = std::min(kept.reach, record_.reach);
  record_ = kept;
  record_.reach = reach;
  doors_.counter("hearth_door_resumes_total", "Requests that came again, and got the same answer").add();
  return {};
}

const DoorModel* DoorAnswer::find_model(const DoorState& state) const {
  const auto found = std::ranges::find(state.models, record_.model, &DoorModel::name);
  if (found == state.models.end() || (!record_.digest.empty() && found->digest != record_.digest)) return nullptr;
  return &*found;
}

std::vector<DoorView> DoorAnswer::views(const std::vector<std::shared_ptr<Door>>& others) const {
  const auto prefixes = doors_.known_prefixes(call_.identity.tenant, prompt_);
  const bool may_relay = anywhere_ && doors_.relays < Doors::kRelaysMax;
  std::vector<DoorView> all;
  const auto add = [&](const DoorState& state, const std::string& address) -> DoorView& {
    DoorView view{.usable = !state.draining && std::ranges::find(excluded_, address) == excluded_.end(),
                  .slots = state.slots,
                  .queue_max = state.queue_max,
                  .decode_rate = state.decode_rate,
                  .prompt_rate = state.prompt_rate,
                  .answer_seconds = state.answer_seconds,
                  .share = state.power.share,
                  .battery_percent = state.power.battery_percent};
    const DoorModel* model = find_model(state);
    view.has_model = model != nullptr;
    if (model) {
      view.loaded = model->loaded, view.running = model->running, view.waiting = model->waiting;
      view.crowds_out = !model->loaded && state.room_bytes && std::cmp_less(*state.room_bytes, model->bytes);
    }
    if (const auto known = prefixes.find(address); known != prefixes.end())
      view.cached_tokens = static_cast<int>(known->second / kBytesPerToken);
    return all.emplace_back(view);
  };
  const DoorState own = doors_.own_state();
  DoorView& here = add(own, "");
  here.here = true;
  here.usable = here.usable || server_.draining();  // what is in, is answered
  for (const auto& door : others) {
    const DoorState state = door->state();
    DoorView& view = add(state, door->address());
    view.usable = view.usable && may_relay && door->lives() && state.computing == own.computing;
    view.latency_seconds = door->latency_seconds();
    const int sent = door->sent(), free = std::max(view.slots - view.running, 0);
    view.running += std::min(sent, free), view.waiting += std::max(sent - free, 0);
  }
  return all;
}

AnswerOrigin DoorAnswer::origin() const {
  AnswerOrigin origin = record_.origin;
  origin.told = told_;
  origin.numbered = numbered_;
  origin.answered_by = answered_by_;
  if (text_of(body_, "model").empty()) {  // others have another usual one
    json::object named = body_;
    named["model"] = record_.model;
    origin.body = json::serialize(named);
  }
  constexpr double kAnyTime = 1e6;
  if (ask_.deadline_seconds && !answered_by_.empty())
    origin.deadline_seconds = kAnyTime;  // the cloud had its chance to keep it: late is better than never
  else if (ask_.deadline_seconds)
    origin.deadline_seconds = std::max(0.0, *ask_.deadline_seconds - seconds_since(call_.record->arrived));
  return origin;
}

void DoorAnswer::note(std::string_view door, std::string_view reason) {
  doors_
      .counter("hearth_door_requests_total", "Requests by the door that answered, and why that one",
               {{"door", door}, {"reason", reason}})
      .add();
}

void DoorAnswer::run() {
  if (!record_.request_id.empty() && record_.reach != Reach::kLocal) {
    const auto kept = std::make_shared<const AnswerRecord>(record_);
    call_.exchange->run_waiting([&] { doors_.keep(kept); });
  } else if (!record_.request_id.empty()) {
    doors_.records().put(std::make_shared<const AnswerRecord>(record_));
  }
  call_.exchange->on_gone([gone = gone_] { *gone = true; });
  while (!*gone_ && !doors_.stopped() && step()) {
  }
}

// True: nothing is decided yet.
bool DoorAnswer::step() {
  if (!call_.identity.may_use(asked_model_)) {  // as if there were none
    here(DoorReason::kHere);
    return false;
  }
  const auto others = doors_.others();
  const std::vector<DoorView> seen = views(others);
  ask_.reach = record_.reach;
  const auto& cloud = doors_.options().cloud;
  ask_.cloud = chat_ && !cloud_asked_ && !accepted_ && ask_.reach == Reach::kAny && cloud && cloud->ready();
  const DoorChoice choice = choose_door(seen, ask_);
  if (choice.cloud) {
    if (by_cloud()) {
      note("cloud", name(choice.reason));
      return false;
    }
    return true;
  }
  if (choice.order.empty()) return wait_for_room(choice);
  const size_t best = choice.order.front();
  if (seen[best].here) {
    here(choice.reason);
    return false;
  }
  const std::shared_ptr<Door>& door = others[best - 1];
  const Outcome outcome = there(door);
  if (outcome == Outcome::kDone) note(door->address(), name(choice.reason));
  if (outcome == Outcome::kDone || outcome == Outcome::kClientGone) return false;
  excluded_.push_back(door->address());
  if (outcome == Outcome::kRefused) {
    refused_ = true;
    return true;
  }
  accepted_ = true;
  LOG(kWarning, "the door at {} was lost in an answer, which goes on elsewhere", door->address());
  doors_
      .counter("hearth_door_failovers_total", "Answers that went on elsewhere because a door was lost",
               {{"door", door->address()}})
      .add();
  return true;
}

// Nobody can take it. One that had begun waits; others are told when to come again.
bool DoorAnswer::wait_for_room(const DoorChoice& choice) {
  if (accepted_ && seconds_since(call_.record->arrived) < std::chrono::duration<double>(kPatience).count()) {
    call_.exchange->run_waiting([] { std::this_thread::sleep_for(kAskAgain); });
    excluded_.clear();
    return true;
  }
  if (!choice.full && !refused_ && !accepted_ && told_.empty()) {  // there is no such model: this machine says so
    here(DoorReason::kHere);
    return false;
  }
  note("none", "full");
  call_.record->error = info(Code::kBusy).name;
  call_.exchange->add_header("Retry-After", std::to_string(choice.retry_after_seconds));
  const Error error{Code::kBusy, fmt::format("all machines are busy; try again in {} s", choice.retry_after_seconds)};
  reply_json(call_, http_status(error), error_body(Dialect::kOpenAi, http_status(error), error));
  return false;
}

void DoorAnswer::here(DoorReason reason) {
  note("here", name(reason));
  doors_.note_prefix(call_.identity.tenant, prompt_, "");
  if (!begun_)
    call_.exchange->add_header("X-Hearth-Answered-By", answered_by_.empty() ? doors_.options().name : answered_by_);
  if (numbered_ || accepted_ || !answered_by_.empty()) call_.origin = std::make_shared<const AnswerOrigin>(origin());
  call_.route->handle(server_, std::move(call_));
}

DoorAnswer::Outcome DoorAnswer::there(const std::shared_ptr<Door>& door) {
  const auto url = door->url("/api/hearth/door/answer");
  if (!url) return Outcome::kRefused;
  AnswerRecord sent = record_;
  if (const DoorState state = door->state(); sent.digest.empty())
    if (const DoorModel* model = find_model(state)) record_.digest = sent.digest = model->digest;
  sent.identity = call_.identity;
  sent.origin = origin();
  sent.origin.numbered = true;
  const std::string envelope = to_bytes(sent);
  const DoorState state = door->state();
  DoorFrameReader frames;
  events_.clear();
  done_ = refused_ = false;
  door->count_sent();
  const auto give_up = [&] { return gone_->load() || doors_.stopped() || !door->lives(); };
  const auto take_bytes = [&](std::string_view bytes) {
    frames.feed(bytes);
    for (;;) {
      const auto frame = frames.next();
      if (!frame) return false;
      if (!*frame) return true;
      if (!take(**frame, state)) return false;
    }
  };
  HttpCall call{.body = envelope,
                .site = doors_.options().site ? &*doors_.options().site : nullptr,
                .connect_max = doors_.options().lost_after,
                .silence_max = doors_.options().lost_after,
                .answer_bytes_max = uint64_t{1} << 40,
                .take = take_bytes,
                .cancelled = give_up};
  Result<HttpReply> reply;
  ++doors_.relays;
  call_.exchange->run_waiting([&] { reply = http_call(*url, call); });
  --doors_.relays;
  if (done_) {
    doors_.note_prefix(call_.identity.tenant, prompt_, door->address());
    return Outcome::kDone;
  }
  if (*gone_ || doors_.stopped()) return Outcome::kClientGone;
  if (refused_ || (reply && reply->status != 200)) return Outcome::kRefused;
  return Outcome::kLost;
}

// False: the rest is not wanted.
bool DoorAnswer::take(const DoorFrame& frame, const DoorState& state) {
  if (frame.kind == '.') return true;
  if (frame.kind == 'r') return take_whole(frame, state);
  if (frame.kind == 'w') return take_events(frame.payload);
  const auto value = parse_json(frame.payload);
  const json::object* object = value ? value->if_object() : nullptr;
  if (!object) return false;
  if (frame.kind == 'e') {
    if (!events_.empty()) return false;
    take_over(*object, *call_.record);
    done_ = true;
    call_.exchange->end();
    return true;
  }
  if (std::exchange(begun_, true)) return true;
  call_.exchange->add_header("X-Hearth-Answered-By", state.name);
  call_.record->streamed = true;
  call_.exchange->begin(200, text_of(*object, "type"), {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}});
  return true;
}

bool DoorAnswer::take_events(std::string_view bytes) {
  events_ += bytes;
  std::string ready;
  size_t end = 0;
  for (size_t next = events_.find("\n\n"); next != std::string::npos; next = events_.find("\n\n", end)) {
    const std::string_view event = std::string_view(events_).substr(end, next + 2 - end);
    end = next + 2;
    const size_t line = event.find('\n') + 1;
    // What has no place is no part of the answer: that door ends, and says so.
    auto place = event.starts_with("id: ") ? parse_place(event.substr(4, line - 5))
                                           : Result<std::vector<int64_t>>(fail(Code::kMalformed, "no id"));
    if (!place) break;
    ready += numbered_ ? event : event.substr(line);
    told_ = std::move(*place);
  }
  const bool whole = events_.size() == end || events_.find("\n\n", end) == std::string::npos;
  events_.erase(0, end);
  if (!call_.record->first_token_seconds && !ready.empty())
    call_.record->first_token_seconds = seconds_since(call_.record->arrived);
  if (!ready.empty() && !call_.exchange->write(std::move(ready))) {
    *gone_ = true;
    return false;
  }
  return whole;
}

bool DoorAnswer::take_whole(const DoorFrame& frame, const DoorState& state) {
  const size_t end = std::min(frame.payload.find('\n'), frame.payload.size());
  const auto value = parse_json(std::string_view(frame.payload).substr(0, end));
  const json::object* object = value ? value->if_object() : nullptr;
  const json::value* given = object ? object->if_contains("status") : nullptr;
  const auto status = json::try_value_to<int>(given ? *given : json::value());
  if (!status || *status < 200 || *status > 599 || end == frame.payload.size()) return false;
  // Busy, ending, or without the model after all: others may do better.
  if (*status == 429 || *status == 404 || *status >= 500) {
    refused_ = true;
    return false;
  }
  if (const json::value* took = object->if_contains("took"); took && took->is_object())
    take_over(took->get_object(), *call_.record);
  call_.exchange->add_header("X-Hearth-Answered-By", state.name);
  done_ = true;
  call_.exchange->reply(*status, text_of(*object, "type"), frame.payload.substr(end + 1));
  return true;
}

// False: it failed, and the request is answered as if there were none, but marked.
bool DoorAnswer::by_cloud() {
  Cloud& cloud = *doors_.options().cloud;
  Fields fields(body_);
  const int n = static_cast<int>(fields.integer("n", 1, limits::kChoices).value_or(1));
  Result<Answer> answer;
  cloud_asked_ = true;
  ++doors_.relays;
  call_.exchange->run_waiting([&] { answer = cloud.ask(body_, n, [&] { return gone_->load() || doors_.stopped(); }); });
  --doors_.relays;
  if (*gone_ || doors_.stopped()) return true;
  if (!answer) {
    LOG(kWarning, "the cloud failed, this site answers: {}", answer.error().message);
    answered_by_ = "local (the cloud failed)";
    return false;
  }
  write_cloud(*answer);
  return true;
}

void DoorAnswer::write_cloud(const Answer& answer) {
  const std::string by = "cloud:" + doors_.options().cloud->options().model;
  Record& record = *call_.record;
  record.model = by, record.streamed = streamed_;
  record.prompt_tokens = answer.usage.prompt_tokens, record.completion_tokens = answer.usage.completion_tokens;
  const json::value* options = body_.if_contains("stream_options");
  const json::value* usage =
      options && options->is_object() ? options->get_object().if_contains("include_usage") : nullptr;
  const auto writer = openai_chat_writer({.model = record_.model,
                                          .id = record_.origin.id,
                                          .created = record_.origin.created,
                                          .answered_by = by,
                                          .include_usage = usage && *usage == true});
  call_.exchange->add_header("X-Hearth-Answered-By", by);
  if (!streamed_) return reply_json(call_, 200, writer->whole(answer));
  std::string bytes = writer->begin();
  for (size_t i = 0; i < answer.choices.size(); ++i) {
    const Choice& choice = answer.choices[i];
    const auto add = [&, index = static_cast<int>(i)](Event event) {
      event.choice = index;
      bytes += writer->event(event);
    };
    if (!choice.reasoning.empty()) add({.kind = Event::Kind::kReasoning, .text = choice.reasoning});
    if (!choice.text.empty()) add({.text = choice.text});
    for (size_t c = 0; c < choice.calls.size(); ++c) {
      const Call& made = choice.calls[c];
      add({.kind = Event::Kind::kCall, .call = static_cast<int>(c), .text = made.name, .id = made.id});
      add({.kind = Event::Kind::kArguments, .call = static_cast<int>(c), .text = made.arguments});
    }
    add({.kind = Event::Kind::kFinish, .finish = choice.finish});
  }
  call_.exchange->begin(200, writer->stream_type(), {{"Cache-Control", "no-cache"}});
  call_.exchange->write(bytes + writer->end(answer));
  call_.exchange->end();
}

void Doors::answer(RouteCall call) {
  DoorAnswer work(server_, *this, call);
  if (const auto prepared = work.prepare(); !prepared) return reply_error(call, prepared.error());
  work.run();
}

void Doors::resume(RouteCall call, std::string request_id) {
  DoorAnswer work(server_, *this, call);
  if (const auto prepared = work.prepare_resume(std::move(request_id)); !prepared)
    return reply_error(call, prepared.error());
  work.run();
}

}  // namespace hearth::serve
