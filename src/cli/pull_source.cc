#include "cli/pull_source.h"

#include "store/model_name.h"

namespace hearth::cli {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kForms =
    "a URL, a file, a folder, owner/name[:quant] of a model hub, or one of default, tiny";

bool written_as_path(std::string_view text) {
  return text.starts_with('/') || text.starts_with("./") || text.starts_with("../") || text == "." || text == "..";
}

Result<PullSource> local_source(std::string_view text) {
  std::error_code error;
  const fs::path path(text);
  if (fs::is_regular_file(path, error) || fs::is_directory(path, error)) return LocalSource{path};
  return fail(Code::kNotFound, "{}: no such file or folder", printable(text));
}

// A page of the hub as people copy it from a browser: the repository, or one file of it.
Result<PullSource> web_source(std::string_view text) {
  Url url = TRY(parse_url(text));
  const bool hub = url.host == "huggingface.co" || url.host == "hf.co";
  if (!hub) return url;
  const std::string_view path = std::string_view(url.path).substr(1);
  if (auto repository = parse_hub_repository(path)) return HubSource{std::move(*repository), nullptr};
  if (const size_t at = url.text.find("/blob/"); at != std::string::npos) {
    url = TRY(parse_url(url.text.substr(0, at) + "/resolve/" + url.text.substr(at + 6)));
  }
  return url;
}

std::string without_extension(std::string name) {
  for (const std::string_view extension : {".gguf", ".safetensors"}) {
    if (name.ends_with(extension)) name.resize(name.size() - extension.size());
  }
  return name;
}

}  // namespace

Result<PullSource> parse_pull_source(std::string_view text) {
  if (const KnownModel* known = find_known_model(text)) {
    return HubSource{TRY(parse_hub_repository(known->repository)), known};
  }
  if (text.starts_with("file://")) {
    std::string_view path = text.substr(7);
    if (path.starts_with("localhost/")) path.remove_prefix(9);
    if (!path.starts_with('/'))
      return fail(Code::kInvalidArgument, "{}: a file URL has three slashes: file:///path", printable(text));
    return local_source(path);
  }
  std::error_code error;
  if (written_as_path(text) || text.ends_with(".gguf") || fs::exists(fs::path(text), error)) {
    if (!text.starts_with("http://") && !text.starts_with("https://")) return local_source(text);
  }
  if (text.find("://") != std::string_view::npos) {
    auto source = web_source(text);
    // The text of a URL may hold a password, so the message does not repeat it.
    if (!source) return within("source", std::move(source).error());
    return source;
  }
  if (auto repository = parse_hub_repository(text)) return HubSource{std::move(*repository), nullptr};
  return fail(Code::kInvalidArgument, "'{}' is no source; it is {}", printable(text), kForms);
}

Result<std::string> default_model_name(const PullSource& source) {
  if (const auto* hub = std::get_if<HubSource>(&source)) {
    if (hub->known) return std::string(hub->known->name);
    const std::string quant = hub->repository.quant.empty() ? "" : ":" + hub->repository.quant;
    return model_name_from(hub->repository.owner + "/" + hub->repository.name + quant);
  }
  std::string name;
  if (const auto* url = std::get_if<UrlSource>(&source)) name = url->file_name();
  if (const auto* local = std::get_if<LocalSource>(&source)) {
    std::error_code error;
    name = fs::weakly_canonical(local->path, error).filename().string();
  }
  if (name.empty()) return fail(Code::kInvalidArgument, "no name for the model; give one with --name");
  return model_name_from(without_extension(std::move(name)));
}

}  // namespace hearth::cli
