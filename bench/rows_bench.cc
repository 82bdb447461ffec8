// Loops over single rows, in the first-level cache: NAME/ISA. Shares are of what one thread reads from there.
#include "kernel_bench.h"
#include "machine_limits.h"

namespace hearth::bench {
namespace {

using namespace cpu;

constexpr int64_t kSize = 2048;

// `read_bytes` per element.
template <class Loop>
void add_loop(const Kernels& kernels, const std::string& what, double read_bytes, Loop loop) {
  add(what + "/" + std::string(kernels.isa), [=](benchmark::State& state) mutable {
    const std::vector<float> x = random_floats(kSize, 1), y = random_floats(kSize, 2);
    const Work work{
        .operations = 0, .read_bytes = read_bytes * kSize, .peak_gop_s = 0, .limit_gb_s = limits(1).read_cached_gb_s};
    measure(state, work, [&] { loop(x, y); });
  });
}

}  // namespace

void add_rows(const Kernels& kernels) {
  using Floats = std::vector<float>;
  add_loop(kernels, "quantize_rows", 4,
           [&, memory = std::vector<std::byte>(static_cast<size_t>(QuantizedRows::bytes_per_row(kSize)))](
               const Floats& x, const Floats&) mutable {
             kernels.quantize_rows(x.data(), kSize, 1, QuantizedRows::in(memory.data(), 1, kSize));
           });
  add_loop(kernels, "rms_norm", 12, [&, out = Floats(kSize)](const Floats& x, const Floats& weight) mutable {
    kernels.rms_norm(x.data(), weight.data(), kSize, 1e-6f, out.data());
  });
  for (const auto& [name, activation] : {std::pair("silu", Activation::kSilu), {"gelu", Activation::kGeluTanh}})
    add_loop(kernels, name, 8, [&, activation, out = Floats(kSize)](const Floats& gate, const Floats& up) mutable {
      kernels.glu(activation, gate.data(), up.data(), kSize, out.data());
    });
  add_loop(kernels, "f32_to_f16", 4, [&, out = std::vector<uint16_t>(kSize)](const Floats& x, const Floats&) mutable {
    kernels.f32_to_f16(x.data(), kSize, out.data());
  });
}

}  // namespace hearth::bench
