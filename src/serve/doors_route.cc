// What doors ask each other, at the address for them, and how a client gets the rest of an answer.
#include "base/json.h"
#include "serve/all.h"
#include "serve/door_exchange.h"
#include "serve/doors.h"
#include "serve/server.h"

namespace hearth::serve {
namespace {

// The doors, or an error for who asks.
Doors* doors_of(Server& server, const RouteCall& call) {
  if (!server.doors())
    reply_error(call, {Code::kNotFound, "this server has no doors; start it with --door or --peers"});
  return server.doors();
}

void tell_state(Server& server, RouteCall call) {
  if (Doors* doors = doors_of(server, call)) reply_json(call, 200, to_json(doors->own_state()));
}

void keep_record(Server& server, RouteCall call) {
  Doors* doors = doors_of(server, call);
  if (!doors) return;
  auto record = parse_record(call.exchange->request().body);
  if (!record) return reply_error(call, record.error());
  doors->records().put(std::make_shared<const AnswerRecord>(std::move(*record)));
  reply_json(call, 200, boost::json::object());
}

void find_record(Server& server, RouteCall call) {
  Doors* doors = doors_of(server, call);
  if (!doors) return;
  const auto asked = parse_json(call.exchange->request().body, {.depth = 2, .bytes = limits::kHttpHeadBytes});
  const auto text = [&](std::string_view field) -> std::string {
    const auto* object = asked ? asked->if_object() : nullptr;
    const auto* value = object ? object->if_contains(field) : nullptr;
    return value && value->is_string() ? std::string(value->get_string()) : std::string();
  };
  const auto record = doors->records().find(text("owner"), text("request_id"));
  if (!record) return reply_error(call, {Code::kNotFound, "no such request is kept here"});
  call.exchange->reply(200, "application/octet-stream", to_bytes(*record));
}

// As if its client had asked here; what the other door says of who that is, is believed.
void answer_for_door(Server& server, RouteCall call) {
  Doors* doors = doors_of(server, call);
  if (!doors) return;
  auto record = parse_record(call.exchange->request().body);
  if (!record) return reply_error(call, record.error());
  const auto matched = match(all_routes(), "POST", record->path);
  if (!matched || !matched->route->shared)
    return reply_error(call, {Code::kInvalidArgument, "doors do not answer this for each other"});
  const auto exchange = std::make_shared<DoorExchange>(call.exchange, call.record);
  doors->keep_alive(exchange);
  RouteCall asked{.exchange = exchange, .identity = record->identity, .parameters = {}, .record = call.record};
  asked.route = matched->route;
  asked.origin = std::make_shared<const AnswerOrigin>(std::move(record->origin));
  call.exchange.reset();
  asked.route->handle(server, std::move(asked));
}

void rest_of_answer(Server& server, RouteCall call) {
  Doors* doors = doors_of(server, call);
  if (!doors) return;
  std::string request_id = call.parameters[0];
  doors->resume(std::move(call), std::move(request_id));
}

void list_doors(Server& server, RouteCall call) {
  Doors* doors = doors_of(server, call);
  if (!doors) return;
  reply_json(call, 200, {{"own", to_json(doors->own_state())}, {"others", doors->others_shown()}});
}

}  // namespace

const Route kDoorState{"GET", "/api/hearth/door", Access::kDoor, Dialect::kOpenAi, tell_state};
const Route kDoorAnswer{"POST", "/api/hearth/door/answer", Access::kDoor, Dialect::kOpenAi, answer_for_door};
const Route kDoorRecords{"POST", "/api/hearth/door/records", Access::kDoor, Dialect::kOpenAi, keep_record};
const Route kDoorFind{"POST", "/api/hearth/door/records/find", Access::kDoor, Dialect::kOpenAi, find_record};
const Route kDoors{"GET", "/v1/doors", Access::kAdmin, Dialect::kOpenAi, list_doors};
const Route kAnswerRest{"GET", "/v1/answers/{id}", Access::kUser, Dialect::kOpenAi, rest_of_answer};

}  // namespace hearth::serve
