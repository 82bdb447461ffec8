// Keys and values in fewer bits cost some models nothing and others their sense. So a type of fewer than 8 bits is used, and `auto`
// takes one, only after it was measured on the model itself: how far its answers to a built-in text are from those with f16.
#pragma once

#include <filesystem>
#include <functional>
#include <string_view>

#include "model/model.h"

namespace hearth {

// Over the second half of the text, against f16: the mean Kullback-Leibler divergence of the next token's distribution, and by
// how much the perplexity is larger (0.01: a hundredth).
struct KvLoss {
  double mean_kld = 0.0, perplexity_change = 0.0;
};
// A mean divergence of 0.01 is a perplexity about a hundredth larger. It is what decides: the perplexity of so few tokens varies
// by as much, in either direction. NaN does not pass.
inline constexpr double kKvKldMax = 0.01;
inline bool passes(const KvLoss& loss) { return loss.mean_kld <= kKvKldMax; }

// Seconds; nobody else may drive the decoder meanwhile. Errors: no memory; a text that gives no tokens.
Result<KvLoss> measure_kv_loss(const Model& model, KvType type);

struct KvGateOptions {
  bool open = false;               // what is asked for is taken unmeasured
  std::filesystem::path memory{};  // a JSON file that keeps what was measured; empty: none. It may be lost at any time.
  std::function<void(const std::string&)> tell{};  // that a measurement begins, and its result; may be empty
};
// `wanted`: a type's name, or "auto": the one of the fewest bits that passes. kUnsupported with the numbers and what to do
// instead if a type of fewer than 8 bits that is asked for does not pass; f16 and i8 are taken unmeasured. kInvalidArgument if it
// is not known.
Result<KvType> choose_kv_type(const Model& model, std::string_view wanted, const KvGateOptions& options);
// The type to plan memory by before there is a model: "auto" may take as much as f16.
Result<KvType> planned_kv_type(std::string_view wanted);

}  // namespace hearth
