#include "serve/door_exchange.h"

#include <boost/json.hpp>

namespace hearth::serve {
namespace json = boost::json;

json::object took(const Record& record) {
  return {{"model", record.model},
          {"finish", record.finish},
          {"error", record.error},
          {"prompt_tokens", record.prompt_tokens},
          {"cached_tokens", record.cached_tokens},
          {"completion_tokens", record.completion_tokens},
          {"queue_seconds", record.queue_seconds},
          {"prefill_seconds", record.prefill_seconds},
          {"decode_seconds", record.decode_seconds}};
}

void take_over(const json::object& took, Record& record) {
  record.elsewhere = true;
  const auto read = [&](std::string_view name, auto& into) {
    const json::value* value = took.if_contains(name);
    if (!value) return;
    if (auto given = json::try_value_to<std::remove_cvref_t<decltype(into)>>(*value)) into = std::move(*given);
  };
  read("model", record.model);
  read("finish", record.finish);
  read("error", record.error);
  read("prompt_tokens", record.prompt_tokens);
  read("cached_tokens", record.cached_tokens);
  read("completion_tokens", record.completion_tokens);
  read("queue_seconds", record.queue_seconds);
  read("prefill_seconds", record.prefill_seconds);
  read("decode_seconds", record.decode_seconds);
}

DoorExchange::DoorExchange(std::shared_ptr<HttpExchange> inner, std::shared_ptr<Record> record)
    : inner_(std::move(inner)), record_(std::move(record)) {
  inner_->begin(200, "application/octet-stream");
  send({});
}

void DoorExchange::add_header(std::string name, std::string value) {
  const std::scoped_lock lock(mutex_);
  headers_.emplace_back(std::move(name), std::move(value));
}

json::object DoorExchange::head(int status, std::string_view content_type, HttpHeaders headers) {
  const std::scoped_lock lock(mutex_);
  headers.insert(headers.end(), headers_.begin(), headers_.end());
  json::object out{{"status", status}, {"type", content_type}};
  json::object all;
  for (const auto& [name, value] : headers) all[name] = value;
  out["headers"] = std::move(all);
  return out;
}

void DoorExchange::reply(int status, std::string_view content_type, std::string body, HttpHeaders headers) {
  json::object out = head(status, content_type, std::move(headers));
  out["took"] = took(*record_);
  send({'r', json::serialize(out) + "\n" + body});
  inner_->end();
}

void DoorExchange::begin(int status, std::string_view content_type, HttpHeaders headers) {
  send({'b', json::serialize(head(status, content_type, std::move(headers)))});
}

void DoorExchange::end() {
  send({'e', json::serialize(took(*record_))});
  inner_->end();
}

}  // namespace hearth::serve
