#include <array>

#include "gateway/adapters.h"

namespace hearth::gateway {

std::span<const AdapterKind> adapter_kinds() {
  static const std::array kKinds = {can_kind(),    coap_kind(), home_assistant_kind(), http_kind(),
                                    modbus_kind(), mqtt_kind(), sparkplug_kind()};
  return kKinds;
}

}  // namespace hearth::gateway
