// Mixtures of experts on the CPU: rows grouped by expert, each expert's matrices read once per step.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/math8.h"

namespace hearth::cpu {
namespace {

struct Choice {
  int row, rank, expert;
  float weight;
};

// The n_used most likely experts of one row, ties to the lower number; weights as the family wants them.
void choose(const float* logits, int n_experts, int row, const ExpertParams& params, std::vector<int>& order,
            std::vector<Choice>& out) {
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&](int a, int b) { return logits[a] > logits[b]; });
  const int counted = params.softmax_before_top_k ? n_experts : params.n_used;
  float total = 0.0f, chosen = 0.0f;
  for (int i = 0; i < counted; ++i) total += exp_f32(logits[order[static_cast<size_t>(i)]] - logits[order[0]]);
  const size_t first = out.size();
  for (int rank = 0; rank < params.n_used; ++rank) {
    const int expert = order[static_cast<size_t>(rank)];
    const float weight = exp_f32(logits[expert] - logits[order[0]]) / total;
    chosen += weight;
    out.push_back({row, rank, expert, weight});
  }
  for (size_t i = first; i < out.size(); ++i)
    out[i].weight = (params.normalise ? out[i].weight / chosen : out[i].weight) * params.scale;
}

}  // namespace

void CpuBackend::experts(Rows x, Rows router_logits, const ExpertParams& params, Rows out) {
  const int n_experts = static_cast<int>(router_logits.cols);
  std::vector<int> order(static_cast<size_t>(n_experts));
  std::vector<Choice> choices;
  choices.reserve(static_cast<size_t>(x.n * params.n_used));
  for (int r = 0; r < x.n; ++r)
    choose(floats(router_logits) + r * router_logits.stride, n_experts, r, params, order, choices);
  std::vector<Choice> by_expert = choices;
  std::ranges::stable_sort(by_expert, {}, &Choice::expert);

  const int64_t d = x.cols, d_expert = params.gate->rows();
  const auto total = static_cast<int64_t>(choices.size());
  // [total][d] results in the order of (row, rank), then room for one expert's inputs, gates and ups.
  float* results = expert_rows_.at_least(total * d + total * (2 * d + 2 * d_expert));
  float *inputs = results + total * d, *gates = inputs + total * d, *ups = gates + total * d_expert,
        *downs = ups + total * d_expert;
  for (size_t begin = 0, end = 0; begin < by_expert.size(); begin = end) {
    const int expert = by_expert[begin].expert;
    while (end < by_expert.size() && by_expert[end].expert == expert) ++end;
    const int m = static_cast<int>(end - begin);
    for (int i = 0; i < m; ++i)
      std::memcpy(inputs + i * d, floats(x) + by_expert[begin + static_cast<size_t>(i)].row * x.stride,
                  static_cast<size_t>(d) * sizeof(float));
    const Product gate_up[] = {{static_cast<const CpuWeight*>(params.gate), expert, gates, d_expert, {}},
                               {static_cast<const CpuWeight*>(params.up), expert, ups, d_expert, {}}};
    Operand operand{.x = inputs, .stride = d, .k = d, .m = m};
    prepare(operand, gate_up, expert_quantized_);
    multiply(operand, gate_up);
    const auto activation = params.glu == GluKind::kSilu ? Activation::kSilu : Activation::kGeluTanh;
    for_rows(m, 2 * d_expert, [&](int i) {
      kernels_.glu(activation, gates + i * d_expert, ups + i * d_expert, d_expert, gates + i * d_expert);
    });
    const Product down[] = {{static_cast<const CpuWeight*>(params.down), expert, downs, d, {}}};
    Operand hidden{.x = gates, .stride = d_expert, .k = d_expert, .m = m};
    prepare(hidden, down, expert_quantized_);
    multiply(hidden, down);
    for (int i = 0; i < m; ++i) {
      const Choice& choice = by_expert[begin + static_cast<size_t>(i)];
      std::memcpy(results + (choice.row * params.n_used + choice.rank) * d, downs + i * d,
                  static_cast<size_t>(d) * sizeof(float));
    }
  }
  for_rows(x.n, params.n_used * d / 2, [&](int r) {
    float* to = floats(out) + r * out.stride;
    std::fill(to, to + d, 0.0f);
    for (int rank = 0; rank < params.n_used; ++rank) {
      const auto index = static_cast<size_t>(r * params.n_used + rank);
      const float* from = results + static_cast<int64_t>(index) * d;
      for (int64_t i = 0; i < d; ++i) to[i] += choices[index].weight * from[i];
    }
  });
}

}  // namespace hearth::cpu
