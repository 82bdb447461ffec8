#include "support/small_gguf.h"

#include "model/gguf_writer.h"
#include "support/fault_server.h"

namespace hearth::test {

std::string small_gguf(const std::string& name, size_t floats) {
  const std::string data = noise(floats * sizeof(float), 3);
  const uint64_t shape[] = {floats};
  GgufWriter writer;
  writer.set("general.architecture", "none");
  writer.set("general.name", name);
  writer.add_tensor("noise", Type::kF32, shape, std::as_bytes(std::span(data)));
  const std::vector<std::byte> bytes = writer.bytes();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace hearth::test
