// What the SOURCE of `hearth pull` means.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <variant>

#include "base/result.h"
#include "net/model_hub.h"
#include "net/url.h"
#include "store/known_models.h"

namespace hearth::cli {

struct LocalSource {
  std::filesystem::path path;  // a file or a folder
};
using UrlSource = Url;
struct HubSource {
  HubRepository repository;
  const KnownModel* known = nullptr;  // if the user named it by alias: then file and digest are known
};
using PullSource = std::variant<LocalSource, UrlSource, HubSource>;

// In this order: an alias or known name; file://, a path that exists or is written as one; http(s)://;
// owner/name[:quant], also as an address of huggingface.co. kInvalidArgument says what the forms are.
Result<PullSource> parse_pull_source(std::string_view text);

// The name in the store if the user gives none: of a repository "owner/name[:quant]", of files their name without
// extension.
Result<std::string> default_model_name(const PullSource& source);

}  // namespace hearth::cli
