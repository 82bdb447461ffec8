// The side of an exchange that its connection sees.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "net/http_exchange.h"
#include "net/http_workers.h"

namespace hearth {

// The bytes of the first line and the headers of an answer. `length`: nothing is said of it if negative.
std::string http_head(int status, std::string_view content_type, const HttpHeaders& headers, int64_t length,
                      std::string_view connection, bool chunked);

// Gathers the bytes of an answer until the connection fetches them.
class ServerAnswer final : public HttpExchange, public std::enable_shared_from_this<ServerAnswer> {
 public:
  struct Form {
    bool http_1_0 = false, keep_alive = false, head_only = false;
    uint64_t stream_buffer_bytes = 0;
  };
  // `news` is called from any thread, may only enqueue: there is something to fetch.
  ServerAnswer(HttpRequest request, Form form, std::shared_ptr<HttpWorkers> workers, std::function<void()> news);
  ~ServerAnswer() override;

  using HttpExchange::begin;
  using HttpExchange::reply;
  [[nodiscard]] const HttpRequest& request() const override { return request_; }
  void add_header(std::string name, std::string value) override;
  void reply(int status, std::string_view content_type, std::string body, HttpHeaders headers) override;
  void begin(int status, std::string_view content_type, HttpHeaders headers) override;
  bool write(std::string bytes) override;
  void end() override;
  void on_gone(std::function<void()> gone) override;
  void on_done(std::function<void(const HttpOutcome&)> done) override;
  void post(std::function<void()> job) override;
  void run_waiting(const std::function<void()>& wait) override;

  // What the connection shares with it; the connection keeps this, not the answer, so that a handler that forgets its
  // exchange is noticed.
  class Output {
   public:
    struct Fetched {
      std::string bytes;
      bool complete = false;  // nothing follows
      bool close = false;     // the connection has to be closed after it
      bool cut = false;       // close at once: the client is too slow, or the answer was given up half way
    };
    Fetched fetch();
    // Nothing of it is there yet.
    [[nodiscard]] bool awaited();
    // The client has gone (or was cut).
    void gone();
    // Everything has gone out.
    void sent();

   private:
    friend class ServerAnswer;
    void finish(bool client_gone);

    std::mutex mutex_;
    std::string bytes_;
    HttpHeaders headers_;  // of add_header
    bool begun_ = false, ended_ = false, gone_ = false, cut_ = false, close_ = false, finished_ = false;
    bool chunked_ = false, head_only_ = false;
    HttpOutcome outcome_;
    std::function<void()> on_gone_;
    std::function<void(const HttpOutcome&)> on_done_;
    std::shared_ptr<HttpWorkers> workers_;
    std::shared_ptr<HttpWorkers::Lane> lane_ = std::make_shared<HttpWorkers::Lane>();
  };
  [[nodiscard]] const std::shared_ptr<Output>& output() const { return output_; }

 private:
  HttpRequest request_;
  Form form_;
  std::function<void()> news_;
  std::shared_ptr<Output> output_;
};

}  // namespace hearth
