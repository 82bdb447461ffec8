#include "cli/model_pull.h"

#include <algorithm>

#include "base/log.h"
#include "base/mapped_file.h"
#include "cli/pull_source.h"
#include "cli/settings.h"
#include "model/gguf.h"
#include "net/http_download.h"
#include "store/model_name.h"
#include "store/sha256.h"

namespace hearth::cli {
namespace fs = std::filesystem;
namespace {

// One file to bring in: from a URL or from this machine.
struct Item {
  ExpectedFile file;
  std::optional<Url> url;
  fs::path path;
};

struct Plan {
  std::string name;
  std::string source;  // as the manifest shows it
  std::vector<Item> items;
};

class Pull {
 public:
  Pull(const PullOptions& options, PullObserver& observer) : options_(options), observer_(observer) {}
  Result<Pulled> run();

 private:
  Result<Plan> make_plan();
  Result<std::vector<Item>> items_of(const PullSource& source);
  Result<std::vector<Item>> hub_items(const HubSource& source);
  Result<std::vector<Item>> folder_items(const fs::path& folder) const;
  Result<bool> already_there(const Store& store, const Plan& plan) const;
  Result<void> fetch(const Item& item, const fs::path& part);
  Result<void> bring_in(Import& import, const Item& item);
  [[nodiscard]] HttpOptions http(const std::string& token) const;

  const PullOptions& options_;
  PullObserver& observer_;
  std::string token_;      // for URLs the user gave: only on demand
  std::string hub_token_;  // for the hub
};

std::string trim_slash(std::string text) {
  while (text.ends_with('/')) text.pop_back();
  return text;
}

HttpOptions Pull::http(const std::string& token) const {
  HttpOptions http;
  http.bearer_token = token;
  http.ca_file = environment("SSL_CERT_FILE");
  if (http.ca_file.empty()) http.ca_file = environment("CURL_CA_BUNDLE");
  http.stall_seconds_max = options_.stall_seconds;
  http.cancel = &observer_.cancelled;
  return http;
}

Result<std::vector<Item>> Pull::hub_items(const HubSource& source) {
  std::string endpoint = options_.endpoint.empty() ? environment("HF_ENDPOINT") : options_.endpoint;
  if (endpoint.empty()) endpoint = kDefaultHubEndpoint;
  endpoint = trim_slash(std::move(endpoint));
  const HubRepository& repository = source.repository;
  if (source.known) {
    // File and digest are known, so the listing is not needed and cannot mislead.
    const HubFile file{std::string(source.known->file), source.known->bytes, std::string(source.known->sha256)};
    const Url url = TRY(parse_url(hub_file_url(endpoint, repository, {"main", {}}, file)));
    return std::vector{Item{{file.path, file.bytes, file.sha256}, url, {}}};
  }
  const Url listing_url = TRY(parse_url(hub_listing_url(endpoint, repository)));
  const std::string text = TRY(http_get_text(listing_url, http(hub_token_), limits::kRepositoryListingBytes));
  auto listing = parse_hub_listing(text);
  if (!listing) return within(listing_url.shown(), std::move(listing).error());
  auto chosen = choose_hub_files(*listing, repository.quant, options_.pattern);
  if (!chosen) return within(repository.owner + "/" + repository.name, std::move(chosen).error());
  std::vector<Item> items;
  for (const HubFile& file : *chosen) {
    const Url url = TRY(parse_url(hub_file_url(endpoint, repository, *listing, file)));
    items.push_back({{url.file_name(), file.bytes, file.sha256}, url, {}});
  }
  return items;
}

Result<std::vector<Item>> Pull::folder_items(const fs::path& folder) const {
  std::vector<Item> items;
  bool gguf = false;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    gguf = gguf || name.ends_with(".gguf");
    if (!name.ends_with(".gguf") && !belongs_to_model_folder(name)) continue;
    items.push_back({{name, {}, ""}, {}, entry->path()});
  }
  if (error) return fail(Code::kIo, "{}: {}", folder.string(), error.message());
  if (gguf) std::erase_if(items, [](const Item& item) { return !item.file.name.ends_with(".gguf"); });
  TRY(model_in_folder(folder));
  return items;
}

Result<std::vector<Item>> Pull::items_of(const PullSource& source) {
  if (const auto* hub = std::get_if<HubSource>(&source)) return hub_items(*hub);
  if (const auto* url = std::get_if<UrlSource>(&source)) {
    return std::vector{Item{{url->file_name(), {}, ""}, *url, {}}};
  }
  const fs::path& path = std::get<LocalSource>(source).path;
  std::error_code error;
  if (fs::is_directory(path, error)) return folder_items(path);
  return std::vector{Item{{path.filename().string(), {}, ""}, {}, path}};
}

std::string shown_source(const PullSource& source) {
  if (const auto* url = std::get_if<UrlSource>(&source)) return url->shown();
  if (const auto* local = std::get_if<LocalSource>(&source)) {
    std::error_code error;
    return fs::weakly_canonical(local->path, error).string();
  }
  const auto& hub = std::get<HubSource>(source);
  return "hf.co/" + hub.repository.owner + "/" + hub.repository.name;
}

Result<Plan> Pull::make_plan() {
  auto parsed = parse_pull_source(options_.source);
  if (options_.hub_only && !(parsed && std::holds_alternative<HubSource>(*parsed)))  // nor told whether a file is there
    return fail(Code::kInvalidArgument, "'{}': only models of the hub are fetched here: owner/name[:quant]",
                options_.source);
  const PullSource source = TRY(std::move(parsed));
  Plan plan;
  plan.name = options_.name.empty() ? TRY(default_model_name(source)) : lower_case(options_.name);
  TRY(check_model_name(plan.name));
  for (const KnownModel& known : known_models()) {
    if (plan.name == known.alias)
      return fail(Code::kInvalidArgument, "'{}' is an alias for {}; choose another name", known.alias, known.name);
  }
  plan.source = shown_source(source);
  plan.items = TRY(items_of(source));
  for (const Item& item : plan.items) TRY(check_file_name(item.file.name));
  if (options_.sha256.empty()) return plan;
  if (!is_sha256(lower_case(options_.sha256))) return fail(Code::kInvalidArgument, "--sha256: not 64 hex digits");
  if (plan.items.size() != 1)
    return fail(Code::kInvalidArgument, "--sha256 is for one file, the source has {}", plan.items.size());
  plan.items[0].file.sha256 = lower_case(options_.sha256);
  return plan;
}

// True if the model is in the store as the plan wants it; an error if something else has its name.
Result<bool> Pull::already_there(const Store& store, const Plan& plan) const {
  const auto there = store.find(plan.name);
  if (!there) {
    if (there.error().code == Code::kNotFound) return false;
    return std::unexpected(there.error());
  }
  bool same = there->files.size() == plan.items.size() && store.resolve(plan.name).has_value();
  bool digests_known = true;
  for (size_t i = 0; same && i < plan.items.size(); ++i) {
    const ExpectedFile& wanted = plan.items[i].file;
    const auto found = std::ranges::find(there->files, wanted.name, &ManifestFile::name);
    const auto by_digest = std::ranges::find(there->files, wanted.sha256, &ManifestFile::sha256);
    digests_known = digests_known && !wanted.sha256.empty();
    same = wanted.sha256.empty() ? found != there->files.end() : by_digest != there->files.end();
  }
  if (same && (digests_known || there->source == plan.source)) return true;
  return fail(Code::kInvalidArgument,
              "another model is called {} already (from {}); choose a name with --name, or remove it: hearth rm {}",
              plan.name, there->source, plan.name);
}

Result<void> Pull::fetch(const Item& item, const fs::path& part) {
  if (!item.url) {
    std::error_code error;
    const uint64_t total = fs::file_size(item.path, error);
    return copy_to_part(item.path, part, options_.link ? CopyMode::kLink : CopyMode::kCopy, [&](uint64_t bytes) {
      observer_.progress({.bytes = bytes, .total = total});
      return !observer_.cancelled;
    });
  }
  DownloadRequest request;
  request.url = *item.url;
  request.part = part;
  request.bytes = item.file.bytes;
  request.bytes_max = options_.bytes_max;
  request.digest_follows = !item.file.sha256.empty();
  const bool hub = std::holds_alternative<HubSource>(TRY(parse_pull_source(options_.source)));
  request.http = http(hub ? hub_token_ : token_);
  request.progress = [&](const DownloadProgress& progress) { observer_.progress(progress); };
  request.retrying = [&](const std::string& reason) { observer_.note("Trying again: " + reason); };
  const uint64_t bytes = TRY(download(request));
  if (bytes == 0) return fail(Code::kMalformed, "{}: the server sent an empty file", item.url->shown());
  return {};
}

// What can be said of a GGUF file without a digest: that it is one, and whole. A login page sent with status 200 and a body without
// a length that was cut are the usual ways to a file that is not.
Result<void> check_gguf(const Item& item, const fs::path& part) {
  if (!item.file.name.ends_with(".gguf")) return {};
  const MappedFile file = TRY(MappedFile::open(part));
  const auto parsed = parse_gguf(file.bytes());
  if (parsed) return {};
  if (parsed.error().code == Code::kUnsupported || parsed.error().code == Code::kLimit) {
    LOG(kWarning, "{}: this version cannot run it: {}", item.file.name, parsed.error().message);
    return {};
  }
  std::error_code error;
  fs::remove(part, error);
  fs::remove(part.string() + ".state", error);
  return fail(Code::kMalformed, "{}: not a whole GGUF file, it was deleted: {}", item.file.name,
              parsed.error().message);
}

Result<void> Pull::bring_in(Import& import, const Item& item) {
  const fs::path part = TRY(import.part(item.file));
  observer_.begin(item.file);
  auto hashing = [&](uint64_t bytes) {
    observer_.progress({.bytes = bytes, .total = item.file.bytes});
    return !observer_.cancelled;
  };
  std::error_code error;
  const bool resumed = fs::exists(part, error) && item.url;
  TRY(fetch(item, part));
  auto take = [&]() -> Result<void> {
    if (item.file.sha256.empty()) TRY(check_gguf(item, part));
    return import.accept(item.file, hashing);
  };
  auto accepted = take();
  const bool damaged =
      !accepted && (accepted.error().code == Code::kCorrupt || accepted.error().code == Code::kMalformed);
  if (!damaged || !resumed) return accepted;
  // The part of an earlier attempt may be the damaged one: once more from the first byte.
  observer_.note(accepted.error().message + "; fetching it again from the beginning");
  TRY(fetch(item, part));
  return take();
}

Result<Pulled> Pull::run() {
  const std::string variable = options_.token_variable.empty() ? "HF_TOKEN" : options_.token_variable;
  hub_token_ = environment(variable.c_str());
  if (!options_.token_variable.empty()) {
    if (hub_token_.empty())
      return fail(Code::kInvalidArgument, "--token-env: the variable {} is not set", printable(variable));
    token_ = hub_token_;
  }
  const Store store = TRY(open_store());
  const Plan plan = TRY(make_plan());
  bool told = false;
  auto waiting = [&] {
    if (!std::exchange(told, true))
      observer_.note(fmt::format("Another process is pulling {}; waiting for it.", plan.name));
    return !observer_.cancelled;
  };
  Import import = TRY(Import::begin(store, plan.name, waiting));
  if (TRY(already_there(store, plan))) return Pulled{.name = plan.name, .was_there = true};
  for (const Item& item : plan.items) TRY(bring_in(import, item));
  const Manifest manifest = TRY(import.commit(plan.source));
  return Pulled{.name = manifest.name, .bytes = manifest.bytes()};
}

}  // namespace

Result<Pulled> pull_model(const PullOptions& options, PullObserver& observer) { return Pull(options, observer).run(); }

}  // namespace hearth::cli
