// Works batches off: each line is a request of its own to the route it names, in the class of batch work.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/result.h"
#include "serve/route.h"
#include "store/batch_journal.h"

namespace hearth::serve {

// The lines of an input file: one object {"custom_id", "method": "POST", "url", "body"} each. Everything is checked before anything is
// accepted; errors name the line.
Result<std::vector<BatchJournal::NewLine>> read_batch_lines(std::string_view content, std::string_view endpoint,
                                                            const Identity& identity);
// Routes a batch may use.
bool is_batch_endpoint(std::string_view path);

class BatchRunner {
 public:
  // `parallel`: lines at once. Begins with what a former run left. The server outlives the runner.
  BatchRunner(Server& server, std::unique_ptr<BatchJournal> journal, int parallel);
  // Lines on their way are given up; they are run again the next time.
  ~BatchRunner();
  BatchRunner(const BatchRunner&) = delete;
  BatchRunner& operator=(const BatchRunner&) = delete;

  [[nodiscard]] BatchJournal& journal() { return *journal_; }
  // There is a new batch, or one was cancelled.
  void wake();
  // Whether no line is left to run; waits for that, at most so long.
  bool wait_until_idle(std::chrono::milliseconds patience);

 private:
  class LineExchange;
  struct Shared;
  void work(std::stop_token stop);
  void start(const BatchLine& line);

  Server& server_;
  std::unique_ptr<BatchJournal> journal_;
  const size_t parallel_;
  std::shared_ptr<Shared> shared_;
  std::vector<std::weak_ptr<LineExchange>> exchanges_;  // the thread's
  std::jthread thread_;
};

}  // namespace hearth::serve
