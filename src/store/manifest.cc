#include "store/manifest.h"

#include <boost/json.hpp>

#include "base/json.h"
#include "base/limits.h"
#include "store/model_name.h"
#include "store/sha256.h"

namespace hearth {
namespace {
namespace json = boost::json;

Result<std::string> text_field(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  if (!value || !value->is_string()) return fail(Code::kMalformed, "no text '{}'", key);
  return std::string(value->get_string());
}

Result<ManifestFile> parse_file(const json::value& value) {
  const json::object* object = value.if_object();
  if (!object) return fail(Code::kMalformed, "an entry of 'files' is no object");
  ManifestFile file;
  file.name = TRY(text_field(*object, "name"));
  TRY(check_file_name(file.name));
  file.sha256 = TRY(text_field(*object, "sha256"));
  if (!is_sha256(file.sha256)) return fail(Code::kMalformed, "'sha256' of {} is not 64 hex digits", file.name);
  const json::value* bytes = object->if_contains("bytes");
  if (!bytes || !bytes->is_int64() || bytes->get_int64() < 0 ||
      static_cast<uint64_t>(bytes->get_int64()) > limits::kFileBytes) {
    return fail(Code::kMalformed, "'bytes' of {} is not a size of at most {}", file.name, limits::kFileBytes);
  }
  file.bytes = static_cast<uint64_t>(bytes->get_int64());
  return file;
}

}  // namespace

uint64_t Manifest::bytes() const {
  uint64_t sum = 0;  // at most kModelFiles * kFileBytes = 2^55
  for (const ManifestFile& file : files) sum += file.bytes;
  return sum;
}

std::string to_json(const Manifest& manifest) {
  json::array files;
  for (const ManifestFile& file : manifest.files) {
    files.push_back(json::object{{"name", file.name}, {"bytes", file.bytes}, {"sha256", file.sha256}});
  }
  const json::object object{
      {"name", manifest.name}, {"source", manifest.source}, {"files", files}, {"added", manifest.added}};
  return json::serialize(object);
}

Result<Manifest> parse_manifest(std::string_view text) {
  const json::value root = TRY(parse_json(text, {.depth = limits::kJsonDepth, .bytes = limits::kManifestBytes}));
  const json::object* object = root.if_object();
  if (!object) return fail(Code::kMalformed, "no JSON object");
  Manifest manifest;
  manifest.name = TRY(text_field(*object, "name"));
  TRY(check_model_name(manifest.name));
  manifest.source = TRY(text_field(*object, "source"));
  manifest.added = TRY(text_field(*object, "added"));
  const json::value* files = object->if_contains("files");
  if (!files || !files->is_array()) return fail(Code::kMalformed, "no list 'files'");
  if (files->get_array().empty() || files->get_array().size() > limits::kModelFiles) {
    return fail(Code::kMalformed, "{} files, 1 to {} are allowed", files->get_array().size(), limits::kModelFiles);
  }
  for (const json::value& file : files->get_array()) manifest.files.push_back(TRY(parse_file(file)));
  return manifest;
}

}  // namespace hearth
