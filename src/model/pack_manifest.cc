// The manifest of a pack as JSON, both ways.
#include <algorithm>
#include <array>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

#include "base/json.h"
#include "base/limits.h"
#include "model/pack.h"

namespace hearth {
namespace {

namespace json = boost::json;

constexpr std::array<std::string_view, 6> kSegmentNames{"text", "rope", "embedding", "layer", "expert", "head"};
constexpr std::string_view kGguf = "gguf", kHuggingFace = "huggingface";

Result<std::string> text_of(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  if (!value || !value->is_string() || value->get_string().size() > limits::kTensorNameBytes)
    return fail(Code::kMalformed, "manifest: no text '{}' of at most {} bytes", key, limits::kTensorNameBytes);
  std::string text(value->get_string());
  if (std::ranges::any_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x20; }))
    return fail(Code::kMalformed, "manifest: '{}' has control characters", key);
  return text;
}

Result<uint64_t> number(const json::value* value, std::string_view what, uint64_t most) {
  if (!value || !value->is_int64() || value->get_int64() < 0 || static_cast<uint64_t>(value->get_int64()) > most)
    return fail(Code::kMalformed, "manifest: '{}' is not a whole number up to {}", what, most);
  return static_cast<uint64_t>(value->get_int64());
}

Result<uint64_t> number_of(const json::object& object, std::string_view key, uint64_t most) {
  return number(object.if_contains(key), key, most);
}

// The objects of a list.
Result<std::vector<const json::object*>> objects_of(const json::object& object, std::string_view key, uint64_t most) {
  const json::value* value = object.if_contains(key);
  if (!value || !value->is_array() || value->get_array().size() > most)
    return fail(Code::kMalformed, "manifest: no list '{}' of at most {}", key, most);
  std::vector<const json::object*> objects;
  for (const json::value& each : value->get_array()) {
    if (!each.is_object()) return fail(Code::kMalformed, "manifest: '{}' holds something that is no object", key);
    objects.push_back(&each.get_object());
  }
  return objects;
}

Result<PackSegment> parse_segment(const json::object& object) {
  PackSegment segment;
  const std::string kind = TRY(text_of(object, "kind"));
  const auto found = std::ranges::find(kSegmentNames, kind);
  if (found == kSegmentNames.end()) return fail(Code::kUnsupported, "manifest: a segment of kind '{}'", kind);
  segment.kind = static_cast<SegmentKind>(found - kSegmentNames.begin());
  const bool expert = segment.kind == SegmentKind::kExpert;
  if (expert || segment.kind == SegmentKind::kLayer)
    segment.layer = static_cast<int>(TRY(number_of(object, "layer", limits::kLayers)));
  if (expert) segment.expert = static_cast<int>(TRY(number_of(object, "expert", limits::kExperts)));
  segment.offset = TRY(number_of(object, "offset", limits::kFileBytes));
  segment.bytes = TRY(number_of(object, "bytes", limits::kFileBytes));
  const std::string sha256 = TRY(text_of(object, "sha256"));
  segment.sha256 = TRY(digest_from_hex(sha256));
  return segment;
}

Result<PackPlace> parse_place(const json::value& value) {
  if (!value.is_array() || value.get_array().size() != 2)
    return fail(Code::kMalformed, "manifest: a place is not [segment, offset]");
  const json::array& pair = value.get_array();
  return PackPlace{.segment = static_cast<uint32_t>(TRY(number(&pair[0], "at", limits::kPackSegments))),
                   .offset = TRY(number(&pair[1], "at", limits::kFileBytes))};
}

Result<PackTensor> parse_tensor(const json::object& object) {
  PackTensor tensor;
  tensor.name = TRY(text_of(object, "name"));
  const std::string type = TRY(text_of(object, "type"));
  const TypeInfo* info = find_type(type);
  if (!info) return fail(Code::kUnsupported, "manifest: tensor '{}' has the type '{}'", tensor.name, type);
  tensor.type = info->type;
  const json::value* shape = object.if_contains("shape");
  const json::value* at = object.if_contains("at");
  if (!shape || !shape->is_array() || shape->get_array().empty() || shape->get_array().size() > tensor.shape.size())
    return fail(Code::kMalformed, "manifest: tensor '{}' has no 'shape' of 1 to {} sizes", tensor.name,
                tensor.shape.size());
  tensor.n_dims = static_cast<int>(shape->get_array().size());
  for (size_t i = 0; i < shape->get_array().size(); ++i)
    tensor.shape[i] = TRY(number(&shape->get_array()[i], "shape", limits::kTensorElements));
  const std::string form = TRY(text_of(object, "form"));
  if (form != "panels" && form != "plain") return fail(Code::kUnsupported, "manifest: a tensor in the form '{}'", form);
  tensor.panels = form == "panels";
  if (!at || !at->is_array() || at->get_array().empty() || at->get_array().size() > limits::kExperts)
    return fail(Code::kMalformed, "manifest: tensor '{}' has no list 'at' of 1 to {} places", tensor.name,
                limits::kExperts);
  for (const json::value& place : at->get_array()) tensor.at.push_back(TRY(parse_place(place)));
  return tensor;
}

json::object to_object(const PackSegment& segment) {
  json::object object{{"kind", name(segment.kind)}};
  if (segment.layer >= 0) object["layer"] = segment.layer;
  if (segment.expert >= 0) object["expert"] = segment.expert;
  object["offset"] = segment.offset;
  object["bytes"] = segment.bytes;
  object["sha256"] = to_hex(segment.sha256);
  return object;
}

json::object to_object(const PackTensor& tensor) {
  json::array shape, at;
  for (int i = 0; i < tensor.n_dims; ++i) shape.emplace_back(tensor.shape[static_cast<size_t>(i)]);
  for (const PackPlace& place : tensor.at) at.push_back(json::array{place.segment, place.offset});
  return {{"name", tensor.name},
          {"type", info(tensor.type).name},
          {"shape", std::move(shape)},
          {"form", tensor.panels ? "panels" : "plain"},
          {"at", std::move(at)}};
}

}  // namespace

std::string_view name(SegmentKind kind) { return kSegmentNames[static_cast<size_t>(kind)]; }

std::string describe(const PackSegment& segment) {
  std::string text(name(segment.kind));
  if (segment.expert >= 0) text += fmt::format(" {} of layer", segment.expert);
  if (segment.layer >= 0) text += fmt::format(" {}", segment.layer);
  return text;
}

std::string to_json(const PackManifest& manifest) {
  json::array text, segments, tensors;
  for (const PackFile& file : manifest.text)
    text.push_back(json::object{{"name", file.name}, {"offset", file.offset}, {"bytes", file.bytes}});
  for (const PackSegment& segment : manifest.segments) segments.push_back(to_object(segment));
  for (const PackTensor& tensor : manifest.tensors) tensors.push_back(to_object(tensor));
  return json::serialize(json::object{{"model", manifest.model},
                                      {"family", manifest.family},
                                      {"source", manifest.source == Checkpoint::Kind::kGguf ? kGguf : kHuggingFace},
                                      {"text", std::move(text)},
                                      {"segments", std::move(segments)},
                                      {"tensors", std::move(tensors)}});
}

Result<PackManifest> parse_pack_manifest(std::string_view text) {
  const json::value root = TRY(parse_json(text, {.depth = 8, .bytes = limits::kPackManifestBytes}));
  const json::object* object = root.if_object();
  if (!object) return fail(Code::kMalformed, "manifest: no JSON object");
  PackManifest manifest;
  manifest.model = TRY(text_of(*object, "model"));
  manifest.family = TRY(text_of(*object, "family"));
  const std::string source = TRY(text_of(*object, "source"));
  if (source != kGguf && source != kHuggingFace) return fail(Code::kUnsupported, "manifest: made from '{}'", source);
  manifest.source = source == kGguf ? Checkpoint::Kind::kGguf : Checkpoint::Kind::kHuggingFace;
  for (const json::object* file : TRY(objects_of(*object, "text", limits::kPackTextFiles)))
    manifest.text.push_back({.name = TRY(text_of(*file, "name")),
                             .offset = TRY(number_of(*file, "offset", limits::kFileBytes)),
                             .bytes = TRY(number_of(*file, "bytes", limits::kFileBytes))});
  for (const json::object* segment : TRY(objects_of(*object, "segments", limits::kPackSegments)))
    manifest.segments.push_back(TRY(parse_segment(*segment)));
  for (const json::object* tensor : TRY(objects_of(*object, "tensors", limits::kTensors)))
    manifest.tensors.push_back(TRY(parse_tensor(*tensor)));
  return manifest;
}

}  // namespace hearth
