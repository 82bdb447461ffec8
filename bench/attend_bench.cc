// Attention of n queries over pages of one KV head: attend/ISA/KV_TYPE/HEAD_DIM/nN.
#include "kernel_bench.h"
#include "machine_limits.h"

namespace hearth::bench {
namespace {

using namespace cpu;

constexpr int kPages = 8;

// A page as random codes; as f16 all are small numbers.
void attend(benchmark::State& state, const Kernels& kernels, int bits, int head_dim, int n) {
  const PageLayout layout{.bits = bits, .head_dim = head_dim};
  const std::vector<float> q = random_floats(n * layout.padded(), 1);
  std::vector<std::byte> pages(static_cast<size_t>(kPages * layout.bytes()), std::byte{0x11});
  std::vector<const std::byte*> at;
  for (int i = 0; i < kPages; ++i) at.push_back(pages.data() + i * layout.bytes());
  std::vector<std::byte> scratch(static_cast<size_t>(attend_scratch_bytes(layout, n)) + 64);
  const auto size = static_cast<size_t>(n);
  std::vector<float> m(size, kNoScore), l(size), o(size * static_cast<size_t>(layout.padded()));
  const std::vector<int> begin(size, 0), end(size, kPages * kPagePositions);
  const AttendArgs args{.layout = layout,
                        .pages = at.data(),
                        .n_pages = kPages,
                        .n_listed = kPages,
                        .n = n,
                        .q = q.data(),
                        .begin = begin.data(),
                        .end = end.data(),
                        .scale = 0.1f,
                        .soft_cap = 0.0f,
                        .m = m.data(),
                        .l = l.data(),
                        .o = o.data(),
                        .scratch = scratch.data() + (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64) % 64};
  const Work work{.operations = 4.0 * n * head_dim * kPagePositions * kPages,
                  .read_bytes = 0,
                  .peak_gop_s = limits(1).fp32_gflop_s,
                  .limit_gb_s = 0};
  measure(state, work, [&] { kernels.attend(args); });
}

}  // namespace

void add_attend(const Kernels& kernels) {
  for (const int bits : {16, 8, 4})
    for (const int head_dim : {64, 128, 256})
      for (const int n : {1, 3, 4, 126})
        add("attend/" + std::string(kernels.isa) +
                (bits == 16  ? "/f16/"
                 : bits == 8 ? "/i8/"
                             : "/i4/") +
                std::to_string(head_dim) + "/n" + std::to_string(n),
            [=, &kernels](benchmark::State& state) { attend(state, kernels, bits, head_dim, n); });
}

}  // namespace hearth::bench
