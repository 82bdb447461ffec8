// Exit heads: what a model would say if it stopped after some of its layers. Each is a linear map, fitted in closed form
// (compress/exit_fit.h), from the residual stream behind layer `layers` to the final hidden state, and a second one to how much that
// guess is to be doubted. Kept in a GGUF file of their own, bound to the pack, precision and KV type they were fitted for.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "base/result.h"
#include "model/checkpoint.h"
#include "tensor/type.h"

namespace hearth {

class Decoder;

// With n = norm(x), x the stream: hidden = n + change n + bias, doubt = doubt n + doubt_bias, the guessed logarithm of the divergence.
struct ExitMap {
  int layers = 0;                   // that run before it: 1 to all but one
  std::vector<float> change, bias;  // [d_model][d_model], [d_model]
  std::vector<float> doubt;         // [d_model + 1], the last its bias; empty: not known
  float same_top = 0;               // how often its likeliest token was the model\'s, on text nothing was fitted to
};

// A bound that was kept on text that nothing was fitted to: tokens whose doubt is at most `threshold` leave after `layers` layers.
struct ExitBound {
  double bound = 0;  // what the mean divergence was not to exceed,
  int layers = 0;
  float threshold = 0;
  double mean_kld = 0, same_top = 0;  // what was measured,
  double exited = 0;                  // the share of tokens that left,
  double saved = 0;                   // and of the bytes of weights that a token reads, what was not read
};
// Less is not worth an answer that differs.
inline constexpr double kExitGainMin = 0.10;

struct ExitFile {
  std::string model;      // digest of the pack's manifest, in hex
  std::string precision;  // Decoder::precision()
  std::string kv_type;
  std::vector<ExitMap> maps;  // fewest layers first
  std::vector<ExitBound> bounds;

  // The largest bound of at most `kld` that is worth it. kUnsupported says what was measured instead.
  [[nodiscard]] Result<ExitBound> choose(double kld) const;
};

Result<void> write_exits(const ExitFile& file, int64_t d_model, const std::filesystem::path& path);
// kUnsupported if it is of another model, precision or KV type than these; kNotFound if it is not there; both say what to do.
Result<ExitFile> read_exits(const std::filesystem::path& path, const Checkpoint& checkpoint, const Decoder& decoder,
                            KvType kv_type);
// What exit heads are bound to. kUnsupported if the checkpoint is no pack.
Result<std::string> exits_bound_to(const Checkpoint& checkpoint);
// Layers that cannot be left out for a token are recurrent ones; i4 pages are written eight positions at a time.
Result<void> check_can_exit(const Decoder& decoder, KvType kv_type);

// A map as a backend holds it.
struct ExitHead {
  int layers = 0;
  std::unique_ptr<Weight> change, doubt;  // `doubt` null: not known
  std::unique_ptr<Buffer> bias, doubt_bias;
};

// For one decoder, which outlives them and drives them on its thread.
class ExitHeads {
 public:
  static Result<std::unique_ptr<ExitHeads>> create(const ExitFile& file, const Decoder& decoder, Backend& backend);

  [[nodiscard]] std::span<const ExitHead> heads() const { return heads_; }
  // Null: none after so many layers.
  [[nodiscard]] const ExitHead* after(int layers) const;
  [[nodiscard]] int64_t bytes() const { return bytes_; }

 private:
  friend class Decoder;
  ExitHeads() = default;
  std::vector<ExitHead> heads_;
  std::unique_ptr<Buffer> hidden_, doubts_;  // rows of a step
  int64_t bytes_ = 0;
};

}  // namespace hearth
