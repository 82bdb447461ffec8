// The kinds of adapters, one per file (all.cc lists them), and what they share to keep their figures.
#pragma once

#include <atomic>
#include <mutex>
#include <string>
#include <utility>

#include "gateway/adapter.h"

namespace hearth::gateway {

AdapterKind can_kind();
AdapterKind coap_kind();
AdapterKind home_assistant_kind();
AdapterKind http_kind();
AdapterKind modbus_kind();
AdapterKind mqtt_kind();
AdapterKind sparkplug_kind();

// Any thread.
class Counters {
 public:
  std::atomic<uint64_t> received = 0, sent = 0, refused = 0, reconnects = 0;

  void state(bool connected, std::string text) {
    const std::scoped_lock lock(mutex_);
    connected_ = connected;
    text_ = std::move(text);
  }
  [[nodiscard]] AdapterFigures figures() const {
    const std::scoped_lock lock(mutex_);
    return {connected_, received, sent, refused, reconnects, text_};
  }

 private:
  mutable std::mutex mutex_;
  bool connected_ = false;
  std::string text_ = "not started";
};

}  // namespace hearth::gateway
