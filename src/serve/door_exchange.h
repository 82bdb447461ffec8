// A request that another door sent on: whoever answers it sees an exchange like any other; what it writes goes back in frames.
#pragma once

#include <boost/json/object.hpp>
#include <memory>
#include <mutex>

#include "net/http_exchange.h"
#include "serve/door_frames.h"
#include "serve/route.h"

namespace hearth::serve {

// What an answer took, for the record of the door that the client asked.
boost::json::object took(const Record& record);
void take_over(const boost::json::object& took, Record& record);

class DoorExchange final : public HttpExchange {
 public:
  // Begins the stream of frames at once, so that the other door hears that this machine lives.
  DoorExchange(std::shared_ptr<HttpExchange> inner, std::shared_ptr<Record> record);
  // So that the other door sees that this one is at work.
  void beat() { send({}); }

  using HttpExchange::begin;
  using HttpExchange::reply;
  [[nodiscard]] const HttpRequest& request() const override { return inner_->request(); }
  void add_header(std::string name, std::string value) override;
  void reply(int status, std::string_view content_type, std::string body, HttpHeaders headers) override;
  void begin(int status, std::string_view content_type, HttpHeaders headers) override;
  bool write(std::string bytes) override { return send({'w', std::move(bytes)}); }
  void end() override;
  void on_gone(std::function<void()> gone) override { inner_->on_gone(std::move(gone)); }
  void on_done(std::function<void(const HttpOutcome&)> done) override { inner_->on_done(std::move(done)); }
  void post(std::function<void()> job) override { inner_->post(std::move(job)); }
  void run_waiting(const std::function<void()>& wait) override { inner_->run_waiting(wait); }

 private:
  bool send(const DoorFrame& frame) { return inner_->write(to_bytes(frame)); }
  boost::json::object head(int status, std::string_view content_type, HttpHeaders headers);

  std::shared_ptr<HttpExchange> inner_;
  std::shared_ptr<Record> record_;
  std::mutex mutex_;
  HttpHeaders headers_;
};

}  // namespace hearth::serve
