// What a device or a broker's other guests may send, by every adapter; and a profile, which a person writes.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "gateway/profile.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  for (const hearth::gateway::AdapterKind& kind : hearth::gateway::adapter_kinds()) kind.parse(bytes);
  (void)hearth::gateway::Profile::parse(bytes, "fuzz.toml");
  return 0;
}
