#include <CLI/CLI.hpp>
#include <boost/json/serialize.hpp>
#include <chrono>
#include <memory>

#include "cli/command.h"
#include "cli/output.h"
#include "cli/progress_line.h"
#include "cli/settings.h"
#include "model/model.h"
#include "model/pack.h"

namespace hearth::cli {
namespace {

struct Options {
  std::string model;
  bool json = false;
};

// A pack given as a file, or the one kept of a model.
Result<MappedFile> open_pack_of(const std::string& model) {
  const Store store = TRY(open_store());
  const std::filesystem::path path = TRY(model_path(store, model));
  std::error_code error;
  if (std::filesystem::is_regular_file(path, error)) {
    MappedFile file = TRY(MappedFile::open_in_use(path));
    if (has_pack_magic(file.bytes())) return file;
  }
  const auto cache = open_cache(store);
  if (!cache) return fail(Code::kIo, "{}: there is no cache of packs", store.root().string());
  auto file = MappedFile::open_in_use(TRY(pack_place(path, *cache)));
  if (!file && file.error().code == Code::kNotFound)
    return fail(Code::kNotFound, "{}: no pack of it yet; running it once makes one", model);
  return file;
}

Result<void> verify_showing(const MappedFile& file, const PackManifest& manifest) {
  ProgressLine progress("verifying " + file.path().filename().string());
  const auto begun = std::chrono::steady_clock::now();
  return verify_segments(file.bytes(), manifest, [&](uint64_t done) {
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
    progress.update(done, file.bytes().size(), static_cast<double>(done) / std::max(seconds, 1e-3));
    return true;
  });
}

Result<void> verify(const Options& options) {
  const MappedFile file = TRY(open_pack_of(options.model));
  const std::string path = file.path().string();
  const auto pack = parse_pack(file.bytes());
  const Result<void> verified = pack ? verify_showing(file, pack->manifest) : std::unexpected(pack.error());
  boost::json::object out{{"pack", path}, {"ok", verified.has_value()}};
  if (pack) {
    out["model"] = pack->manifest.model;
    out["source_sha256"] = to_hex(pack->header.source_sha256);
    out["segments"] = pack->manifest.segments.size();
    out["bytes"] = file.bytes().size();
  }
  if (!verified) out["error"] = verified.error().message;
  if (options.json) fmt::print("{}\n", boost::json::serialize(out));
  if (!verified) return within(path, verified.error());
  if (!options.json)
    fmt::print("ok  {}: {} segments, {}, from {}\n", path, pack->manifest.segments.size(),
               human_bytes(file.bytes().size()), pack->manifest.model);
  return {};
}

std::function<Result<void>()> declare(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  app.add_option("MODEL", options->model, "A model that was used before, or a pack file")->required();
  app.add_flag("--json", options->json, "Print JSON: {pack, ok, model, source_sha256, segments, bytes, error}");
  return [options] { return verify(*options); };
}

}  // namespace

extern const Command kVerify;
const Command kVerify{"verify", "check every byte of a model's pack against its digests",
                      "  hearth verify default\n  hearth verify ./model.pack --json", declare};

}  // namespace hearth::cli
