#include "net/model_hub.h"

#include <fmt/ranges.h>
#include <fnmatch.h>

#include <algorithm>
#include <array>
#include <boost/json.hpp>
#include <charconv>
#include <map>

#include "base/json.h"
#include "base/limits.h"
#include "net/url.h"

namespace hearth {
namespace {
namespace json = boost::json;

// Quality for the size first; the types of the tail are large or coarse.
constexpr std::array<std::string_view, 23> kQuantPreference{
    "Q4_K_M", "Q4_0", "Q8_0", "Q4_K_S", "Q5_K_M", "Q4_K",   "IQ4_XS", "IQ4_NL", "Q4_1", "MXFP4", "Q5_K_S", "Q5_K",
    "Q5_0",   "Q5_1", "Q6_K", "BF16",   "F16",    "Q3_K_M", "Q3_K_L", "Q3_K_S", "Q3_K", "Q2_K",  "F32"};

constexpr std::array<std::string_view, 13> kFolderFiles{"config.json",        "generation_config.json",
                                                        "tokenizer.json",     "tokenizer_config.json",
                                                        "tokenizer.model",    "vocab.json",
                                                        "merges.txt",         "special_tokens_map.json",
                                                        "added_tokens.json",  "chat_template.jinja",
                                                        "chat_template.json", "model.safetensors.index.json",
                                                        "vocab.txt"};

bool name_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
}

bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= limits::kModelNameBytes && text.front() != '.' && text.front() != '-' &&
         std::ranges::all_of(text, name_character);
}

std::string upper_case(std::string_view text) {
  std::string upper(text);
  std::ranges::transform(upper, upper.begin(),
                         [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; });
  return upper;
}

bool safe_path(std::string_view path) {
  if (path.empty() || path.size() > 1024 || path.front() == '/') return false;
  if (std::ranges::any_of(path, [](unsigned char c) { return c < ' ' || c == 0x7f || c == '\\'; })) return false;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view segment = path.substr(begin, end - begin);
    if (segment.empty() || segment == "." || segment == "..") return false;
    begin = end + 1;
  }
  return true;
}

std::string_view file_name(std::string_view path) { return path.substr(path.rfind('/') + 1); }

std::optional<uint64_t> size_of(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  if (!value || !value->is_int64() || value->get_int64() < 0) return std::nullopt;
  return static_cast<uint64_t>(value->get_int64());
}

Result<HubFile> parse_file(const json::value& value) {
  const json::object* object = value.if_object();
  const json::value* path = object ? object->if_contains("rfilename") : nullptr;
  if (!path || !path->is_string()) return fail(Code::kMalformed, "an entry of 'siblings' has no text 'rfilename'");
  HubFile file{std::string(path->get_string()), size_of(*object, "size"), {}};
  if (!safe_path(file.path)) return fail(Code::kMalformed, "a file of the repository has an unsafe path");
  const json::value* lfs = object->if_contains("lfs");
  if (!lfs || !lfs->is_object()) return file;
  const json::value* digest = lfs->get_object().if_contains("sha256");
  const bool hex = digest && digest->is_string() && digest->get_string().size() == 64 &&
                   std::ranges::all_of(digest->get_string(),
                                       [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
  if (!hex) return fail(Code::kMalformed, "'lfs.sha256' of {} is not 64 hex digits", file.path);
  file.sha256 = digest->get_string();
  if (const auto bytes = size_of(lfs->get_object(), "size")) file.bytes = bytes;
  return file;
}

// "model-00001-of-00003.gguf" -> ("model", 1, 3); a file that is not split is part 1 of 1.
struct SplitName {
  std::string base;
  uint32_t part = 1, parts = 1;
};

SplitName split_name(std::string_view path) {
  std::string_view stem = path.substr(0, path.size() - 5);  // without ".gguf"
  constexpr size_t kTail = 15;                              // "-00001-of-00003"
  SplitName whole{std::string(stem)};
  if (stem.size() <= kTail) return whole;
  const std::string_view tail = stem.substr(stem.size() - kTail);
  if (tail[0] != '-' || tail.substr(6, 4) != "-of-") return whole;
  SplitName split{std::string(stem.substr(0, stem.size() - kTail))};
  const bool ok = std::from_chars(tail.data() + 1, tail.data() + 6, split.part).ptr == tail.data() + 6 &&
                  std::from_chars(tail.data() + 10, tail.data() + kTail, split.parts).ptr == tail.data() + kTail;
  return ok ? split : whole;
}

// True if `quant` stands in the name with nothing that could belong to it on either side ("Q4_K" is not in "x-Q4_K_M").
bool names_quant(std::string_view base, std::string_view quant) {
  const std::string upper = upper_case(base);
  auto part_of_word = [](char c) { return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; };
  for (size_t at = upper.find(quant); at != std::string::npos; at = upper.find(quant, at + 1)) {
    const size_t end = at + quant.size();
    if ((at == 0 || !part_of_word(upper[at - 1])) && (end == upper.size() || !part_of_word(upper[end]))) return true;
  }
  return false;
}

using Models = std::map<std::string, std::vector<HubFile>>;  // base name -> parts in order

// All .gguf models of a listing; projectors and importance matrices are no language models.
Models gguf_models(const HubListing& listing) {
  Models models;
  for (const HubFile& file : listing.files) {
    if (!file.path.ends_with(".gguf")) continue;
    const std::string upper = upper_case(file_name(file.path));
    if (upper.find("MMPROJ") != std::string::npos || upper.find("IMATRIX") != std::string::npos) continue;
    models[split_name(file.path).base].push_back(file);
  }
  for (auto& [base, parts] : models) std::ranges::sort(parts, {}, &HubFile::path);
  return models;
}

Result<std::vector<HubFile>> whole_model(const std::string& base, const std::vector<HubFile>& parts) {
  const uint32_t expected = split_name(parts.front().path).parts;
  if (parts.size() == expected) return parts;
  return fail(Code::kNotFound, "'{}' is split into {} files and the repository has {} of them", base, expected,
              parts.size());
}

std::string names_of(const Models& models) {
  std::vector<std::string> names;
  for (const auto& [base, parts] : models) names.push_back(base);
  return fmt::format("{}", fmt::join(names, ", "));
}

Result<std::vector<HubFile>> choose_gguf(const Models& models, std::string_view quant) {
  std::vector<std::string> wanted{upper_case(quant)};
  if (quant.empty()) wanted.assign(kQuantPreference.begin(), kQuantPreference.end());
  for (const std::string& candidate : wanted) {
    for (const auto& [base, parts] : models) {
      if (names_quant(file_name(base), candidate) || names_quant(base, candidate)) return whole_model(base, parts);
    }
  }
  if (quant.empty() && models.size() == 1) return whole_model(models.begin()->first, models.begin()->second);
  if (quant.empty()) return fail(Code::kNotFound, "cannot choose among {}; name one with --file", names_of(models));
  return fail(Code::kNotFound, "no {} among {}", quant, names_of(models));
}

}  // namespace

Result<HubRepository> parse_hub_repository(std::string_view text) {
  std::string_view rest = text;
  for (const std::string_view prefix : {"hf.co/", "huggingface.co/"}) {
    if (rest.starts_with(prefix)) rest.remove_prefix(prefix.size());
  }
  HubRepository repository;
  if (const size_t colon = rest.find(':'); colon != std::string_view::npos) {
    repository.quant = rest.substr(colon + 1);
    rest = rest.substr(0, colon);
    if (!is_name(repository.quant))
      return fail(Code::kInvalidArgument, "nothing usable after ':'; write owner/name:Q4_K_M");
  }
  const size_t slash = rest.find('/');
  if (slash != std::string_view::npos) {
    repository.owner = rest.substr(0, slash);
    repository.name = rest.substr(slash + 1);
  }
  if (is_name(repository.owner) && is_name(repository.name)) return repository;
  return fail(Code::kInvalidArgument, "not a repository; write owner/name or owner/name:Q4_K_M");
}

std::string hub_listing_url(std::string_view endpoint, const HubRepository& repository) {
  return fmt::format("{}/api/models/{}/{}/revision/main?blobs=true", endpoint, repository.owner, repository.name);
}

std::string hub_file_url(std::string_view endpoint, const HubRepository& repository, const HubListing& listing,
                         const HubFile& file) {
  return fmt::format("{}/{}/{}/resolve/{}/{}", endpoint, repository.owner, repository.name, listing.commit,
                     escape_path(file.path));
}

Result<HubListing> parse_hub_listing(std::string_view text) {
  const json::value root =
      TRY(parse_json(text, {.depth = limits::kJsonDepth, .bytes = limits::kRepositoryListingBytes}));
  const json::object* object = root.if_object();
  if (!object) return fail(Code::kMalformed, "the hub's answer is no JSON object");
  HubListing listing;
  const json::value* commit = object->if_contains("sha");
  if (!commit || !commit->is_string() || !is_name(commit->get_string())) {
    return fail(Code::kMalformed, "the hub's answer has no commit 'sha'");
  }
  listing.commit = commit->get_string();
  const json::value* siblings = object->if_contains("siblings");
  if (!siblings || !siblings->is_array()) return fail(Code::kMalformed, "the hub's answer has no list 'siblings'");
  for (const json::value& file : siblings->get_array()) listing.files.push_back(TRY(parse_file(file)));
  return listing;
}

bool belongs_to_model_folder(std::string_view name) {
  return std::ranges::find(kFolderFiles, name) != kFolderFiles.end() || name.ends_with(".safetensors");
}

Result<std::vector<HubFile>> choose_hub_files(const HubListing& listing, std::string_view quant,
                                              std::string_view pattern) {
  if (!pattern.empty()) {
    std::vector<HubFile> matching;
    const std::string form(pattern);
    for (const HubFile& file : listing.files) {
      if (::fnmatch(form.c_str(), file.path.c_str(), 0) == 0) matching.push_back(file);
    }
    if (!matching.empty()) return matching;
    return fail(Code::kNotFound, "none of the {} files matches '{}'", listing.files.size(), pattern);
  }
  const Models models = gguf_models(listing);
  if (!models.empty()) return choose_gguf(models, quant);
  std::vector<HubFile> folder;
  bool weights = false;
  for (const HubFile& file : listing.files) {
    if (file.path.find('/') != std::string::npos || !belongs_to_model_folder(file.path)) continue;
    weights = weights || file.path.ends_with(".safetensors");
    folder.push_back(file);
  }
  if (weights && quant.empty()) return folder;
  return fail(Code::kNotFound, "no {} among its {} files", quant.empty() ? ".gguf or .safetensors" : "such .gguf",
              listing.files.size());
}

}  // namespace hearth
