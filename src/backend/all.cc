#include <array>

#include "backend/backend.h"
#include "backend/cpu/cpu_backend.h"

namespace hearth {
namespace {

Result<std::unique_ptr<Backend>> create_reference(const BackendOptions& options) {
  return cpu::create_cpu_backend({.n_threads = options.n_threads, .isa = "scalar"});
}

constexpr std::array kBackends{
    BackendInfo{"cpu", cpu::create_cpu_backend},
    BackendInfo{"reference", create_reference},
};
constexpr std::array<std::string_view, 3> kKvTypeNames{"f16", "i8", "i4"};

}  // namespace

std::span<const BackendInfo> all_backends() { return kBackends; }

Result<std::unique_ptr<Backend>> create_backend(std::string_view name, const BackendOptions& options) {
  std::string known;
  for (const BackendInfo& backend : kBackends) {
    if (backend.name == name) return backend.create(options);
    known += fmt::format(" {}", backend.name);
  }
  return fail(Code::kNotFound, "no backend is called '{}'; this program has:{}", name, known);
}

std::string_view name(KvType type) { return kKvTypeNames[static_cast<size_t>(type)]; }

Result<KvType> parse_kv_type(std::string_view name) {
  for (size_t i = 0; i < kKvTypeNames.size(); ++i)
    if (kKvTypeNames[i] == name) return static_cast<KvType>(i);
  return fail(Code::kInvalidArgument, "KV type '{}' is not known; use f16, i8, i4 or, where a model runs, auto", name);
}

}  // namespace hearth
