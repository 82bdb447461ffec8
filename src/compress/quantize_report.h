// What a quantisation did, for people and programs: JSON, and one HTML page that needs nothing but itself.
#pragma once

#include <boost/json/value.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "compress/allocation.h"

namespace hearth::compress {

// How a model does on the judge's text. What compares with the source is absent for the source itself.
struct Quality {
  double perplexity = 0.0;
  std::optional<double> mean_kld = {}, kld_p999 = {};  // nats
  std::optional<double> same_top = {};                 // share of positions with the same most likely token, 0 to 1
};

struct ReportedModel {
  std::string path, format;  // format: "GGUF", "pack", "safetensors"
  uint64_t bytes = 0;        // of the file; in a dry run, as planned
  std::optional<Quality> quality = {};
};

// What a matrix does to the divergence alone, as one type.
struct MeasuredType {
  std::string type;
  uint64_t bytes = 0;
  double mean_kld = 0.0;
};

struct ReportedTensor {
  std::string name;
  int layer = -1;    // -1: outside the layers
  std::string kind;  // what it is in its layer, "ffn_down"; outside the layers "token_embd", "output"
  std::vector<uint64_t> shape;
  std::string from, type;  // types before and after, as users write them
  uint64_t bytes = 0;      // after
  // Relative error of the product with the calibration's activations: |y - y'|^2 / |y|^2. Absent where nothing was rounded.
  std::optional<double> output_error = {};
  std::string reason = {};  // why this type, if there is more to say than the plan: "stays: a norm", "its own search"
  std::vector<MeasuredType> measured = {};  // where types were chosen by measuring
};

// A size and the divergence measured or expected there.
struct TradePoint {
  enum class Kind : uint8_t { kResult, kAlternative, kPlan };  // kPlan: the allocator's curve, expected not measured
  Kind kind = Kind::kAlternative;
  std::string label;
  uint64_t bytes = 0;
  double mean_kld = 0.0;
};

struct ReportedText {
  std::string path, sha256;
  uint64_t tokens = 0;  // those that were used
};

struct QuantizeReport {
  std::string command, version;
  bool dry_run = false;  // the plan alone; the output does not exist
  ReportedModel source, output;
  std::string source_sha256;  // of the digests of its files
  std::vector<ReportedTensor> tensors;
  std::vector<TradePoint> trade;
  std::optional<uint64_t> target_bytes;
  std::optional<double> target_kld;
  std::optional<ReportedText> calibration, judge;
  uint64_t seed = 0;
  double seconds = 0.0;
  uint64_t peak_rss_bytes = 0;
};

// The whole report with the sums that readers want (bits per weight per tensor and in total). Figures that are no finite
// number become null.
boost::json::value to_json(const QuantizeReport& report);
// Puts the divergences that a report of this source tells into the choices. kMalformed if it is no report, kInvalidArgument if it is
// of another source, or naming the first tensor and type of which it tells nothing.
Result<void> read_measured(std::string_view report, std::string_view source_sha256, std::span<MatrixChoices> matrices);
// The page: light and dark, any width, no request to anywhere. Names in the report cannot break out of it.
std::string to_html(const QuantizeReport& report);

}  // namespace hearth::compress
