#include "compress/quantize_report.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <cmath>
#include <map>
#include <string_view>
#include <tuple>
#include <utility>

#include "base/check.h"
#include "base/json.h"
#include "compress/report_files.h"

namespace hearth::compress {
namespace {

namespace json = boost::json;

json::value number(double value) { return std::isfinite(value) ? json::value(value) : json::value(nullptr); }
json::value number(std::optional<double> value) { return value ? number(*value) : json::value(nullptr); }

double elements_of(const ReportedTensor& tensor) {
  double count = 1.0;
  for (const uint64_t length : tensor.shape) count *= static_cast<double>(length);
  return count;
}

json::value model_json(const ReportedModel& model) {
  json::object out{{"path", model.path}, {"format", model.format}, {"bytes", model.bytes}, {"quality", nullptr}};
  if (model.quality)
    out["quality"] = {{"perplexity", number(model.quality->perplexity)},
                      {"mean_kld", number(model.quality->mean_kld)},
                      {"kld_p999", number(model.quality->kld_p999)},
                      {"same_top", number(model.quality->same_top)}};
  return out;
}

json::value text_json(const std::optional<ReportedText>& text) {
  if (!text) return nullptr;
  return {{"path", text->path}, {"sha256", text->sha256}, {"tokens", text->tokens}};
}

json::value tensor_json(const ReportedTensor& tensor) {
  const double elements = elements_of(tensor);
  json::array measured;
  for (const MeasuredType& each : tensor.measured)
    measured.push_back({{"type", each.type}, {"bytes", each.bytes}, {"mean_kld", number(each.mean_kld)}});
  return {{"name", tensor.name},
          {"layer", tensor.layer < 0 ? json::value(nullptr) : json::value(tensor.layer)},
          {"kind", tensor.kind},
          {"shape", json::array(tensor.shape.begin(), tensor.shape.end())},
          {"from", tensor.from},
          {"type", tensor.type},
          {"bytes", tensor.bytes},
          {"bits_per_weight", number(8.0 * static_cast<double>(tensor.bytes) / elements)},
          {"output_error", number(tensor.output_error)},
          {"measured", std::move(measured)},
          {"reason", tensor.reason}};
}

json::value point_json(const TradePoint& point) {
  constexpr std::string_view kNames[] = {"result", "alternative", "plan"};
  return {{"kind", kNames[static_cast<size_t>(point.kind)]},
          {"label", point.label},
          {"bytes", point.bytes},
          {"mean_kld", number(point.mean_kld)}};
}

std::string_view part_of_page(std::string_view name) {
  const auto files = report_files();
  const auto file = std::ranges::find(files, name, &EmbeddedFile::name);
  CHECK(file != files.end());
  return {reinterpret_cast<const char*>(file->bytes.data()), file->bytes.size()};
}

// No "<" is left, so that no string of the report ends the script element that it stands in.
std::string for_script(const json::value& value) {
  std::string out;
  for (const char c : json::serialize(value))
    if (c == '<')
      out += "\\u003c";
    else
      out += c;
  return out;
}

}  // namespace

json::value to_json(const QuantizeReport& report) {
  json::array tensors, trade;
  double elements = 0.0, bytes = 0.0;
  for (const ReportedTensor& tensor : report.tensors) {
    elements += elements_of(tensor);
    bytes += static_cast<double>(tensor.bytes);
    tensors.push_back(tensor_json(tensor));
  }
  for (const TradePoint& point : report.trade) trade.push_back(point_json(point));
  return {{"command", report.command},
          {"version", report.version},
          {"dry_run", report.dry_run},
          {"source", model_json(report.source)},
          {"source_sha256", report.source_sha256},
          {"output", model_json(report.output)},
          {"weights", elements},
          {"tensor_bytes", bytes},
          {"bits_per_weight", number(8.0 * bytes / elements)},
          {"tensors", std::move(tensors)},
          {"trade", std::move(trade)},
          {"target_bytes", report.target_bytes ? json::value(*report.target_bytes) : json::value(nullptr)},
          {"target_kld", number(report.target_kld)},
          {"calibration", text_json(report.calibration)},
          {"judge", text_json(report.judge)},
          {"seed", report.seed},
          {"seconds", number(report.seconds)},
          {"peak_rss_bytes", report.peak_rss_bytes}};
}

Result<void> read_measured(std::string_view report, std::string_view source_sha256, std::span<MatrixChoices> matrices) {
  const json::value parsed = TRY(parse_json(report));
  const json::object* object = parsed.if_object();
  const json::value* listed = object ? object->if_contains("tensors") : nullptr;
  if (!listed || !listed->is_array())
    return fail(Code::kMalformed, "not a report of `hearth quantize`: no \"tensors\"");
  std::map<std::tuple<std::string_view, std::string_view, uint64_t>, double> told;
  const auto text = [](const json::object& fields, std::string_view key) -> std::string_view {
    const json::value* value = fields.if_contains(key);
    return value && value->is_string() ? std::string_view(value->get_string()) : std::string_view();
  };
  if (text(*object, "source_sha256") != source_sha256)
    return fail(Code::kInvalidArgument, "a report of another model: its source has the digest '{}', this one {}",
                text(*object, "source_sha256").substr(0, 64), source_sha256);
  const auto number_in = [](const json::object& fields, std::string_view key) {
    const json::value* value = fields.if_contains(key);
    return value && value->is_number() ? value->to_number<double>() : -1;
  };
  for (const json::value& tensor : listed->get_array()) {
    const json::object* fields = tensor.if_object();
    const json::value* measured = fields ? fields->if_contains("measured") : nullptr;
    if (!measured || !measured->is_array()) continue;
    for (const json::value& each : measured->get_array())
      if (const json::object* choice = each.if_object())
        told[{text(*fields, "name"), text(*choice, "type"),
              static_cast<uint64_t>(std::clamp(number_in(*choice, "bytes"), 0.0, 0x1p60))}] =
            number_in(*choice, "mean_kld");
  }
  for (MatrixChoices& matrix : matrices)
    for (TypeChoice& choice : matrix.choices) {
      const auto found = told.find({matrix.name, choice.type->name, choice.bytes});
      if (found == told.end() || !(found->second >= 0))
        return fail(Code::kInvalidArgument,
                    "what tensor '{}' does as {} of {} bytes is not told: the report is of another format, or "
                    "of no mix",
                    matrix.name, choice.type->name, choice.bytes);
      choice.divergence = found->second;
    }
  return {};
}

// The page's one file names the places of its parts with "@@part@@".
std::string to_html(const QuantizeReport& report) {
  constexpr std::string_view kMark = "@@";
  std::string out;
  for (std::string_view rest = part_of_page("report.html"); !rest.empty();) {
    const size_t begin = rest.find(kMark);
    out += rest.substr(0, begin);
    if (begin == std::string_view::npos) break;
    const size_t end = rest.find(kMark, begin + kMark.size());
    CHECK(end != std::string_view::npos);
    const std::string_view part = rest.substr(begin + kMark.size(), end - begin - kMark.size());
    out += part == "data" ? for_script(to_json(report)) : std::string(part_of_page(part));
    rest.remove_prefix(end + kMark.size());
  }
  return out;
}

}  // namespace hearth::compress
