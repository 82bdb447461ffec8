// The largest elements of a product's rows. Scores are looked at where they are computed, piece by piece: a row of a big
// vocabulary is never written out.
#include <algorithm>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/row_math.h"
#include "base/check.h"

namespace hearth::cpu {
namespace {

bool better(const Candidate& a, const Candidate& b) {
  if (a.value != a.value || b.value != b.value)
    return b.value != b.value && (a.value == a.value || a.column < b.column);
  return a.value > b.value || (a.value == b.value && a.column < b.column);
}

// The best of one row, best first.
struct Best {
  Candidate* list;
  int count;  // most
  int* n;     // so far

  void offer(const Candidate& candidate) const {
    if (*n == count && !better(candidate, list[count - 1])) return;
    int at = *n < count ? (*n)++ : count - 1;
    for (; at > 0 && better(candidate, list[at - 1]); --at) list[at] = list[at - 1];
    list[at] = candidate;
  }

  void scan(const float* values, int64_t n_values, int32_t first_column) const {
    constexpr int64_t kStride = 16;
    for (int64_t i = 0; i < n_values; i += kStride) {
      const int64_t end = std::min(n_values, i + kStride);
      if (*n == count && end - i == kStride) {
        // Most stretches hold nothing; a worst of NaN compares with nothing and is looked at closely.
        const float worst = list[count - 1].value;
        int below = 0;
        for (int64_t j = 0; j < kStride; ++j) below += values[i + j] < worst;
        if (below == kStride) continue;
      }
      for (int64_t j = i; j < end; ++j) offer({values[j], first_column + static_cast<int32_t>(j)});
    }
  }
};

}  // namespace

void CpuBackend::largest(const LinearInput& in, const Weight& weight, float scale, float cap, int count,
                         std::span<int32_t> columns, std::span<float> values) {
  const auto& matrix = static_cast<const CpuWeight&>(weight);
  const int m = in.x.n;
  const auto wanted = static_cast<size_t>(m) * static_cast<size_t>(count);
  CHECK(count > 0 && count <= matrix.rows() && columns.size() == wanted && values.size() == wanted);
  const Operand operand = prepare(in, matrix.format().is_float(), !matrix.format().is_float());
  for (BestRows& best : best_) {
    best.candidates.resize(wanted);
    best.n.assign(static_cast<size_t>(m), 0);
  }
  auto best_of = [&](size_t thread, int r) {
    BestRows& best = best_[thread];
    return Best{best.candidates.data() + int64_t{r} * count, count, &best.n[static_cast<size_t>(r)]};
  };
  constexpr int64_t kTileFloats = 16 << 10;
  reserve(thread_scratch_, matmul_scratch_bytes(operand.k) + kCacheLine);
  reserve(thread_floats_, std::max<int64_t>(kTileFloats, m * kPanelRows));
  const Share share{matrix.n_panels(),
                    matrix.panel_bytes() + matrix.format().low_bytes(matrix.cols()) + m * matrix.cols()};
  share_out({&share, 1}, [&](size_t, int64_t begin, int64_t end, int thread) {
    const int64_t step = std::max<int64_t>(1, kTileFloats / (m * kPanelRows));
    for (int64_t panel = begin; panel < end; panel += step) {
      const int64_t to = std::min(end, panel + step), first = panel * kPanelRows;
      const int64_t width = std::min(matrix.rows(), to * kPanelRows) - first;
      float* scores = thread_floats_[static_cast<size_t>(thread)].at_least(m * width);
      multiply_panels(operand, matrix, 0, panel, to, scores, width, {}, thread);
      scale_capped(scores, m * width, scale, cap);
      for (int r = 0; r < m; ++r)
        best_of(static_cast<size_t>(thread), r).scan(scores + r * width, width, static_cast<int32_t>(first));
    }
  });
  for (int r = 0; r < m; ++r) {
    const Best total = best_of(0, r);
    for (size_t thread = 1; thread < best_.size(); ++thread) {
      const Best part = best_of(thread, r);
      for (int i = 0; i < *part.n; ++i) total.offer(part.list[i]);
    }
    for (int i = 0; i < count; ++i) {
      columns[static_cast<size_t>(r * count + i)] = total.list[i].column;
      values[static_cast<size_t>(r * count + i)] = total.list[i].value;
    }
  }
}

}  // namespace hearth::cpu
