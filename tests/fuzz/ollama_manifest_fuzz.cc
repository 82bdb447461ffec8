// A name somebody asks for, a newline, and any bytes as the manifest of a model in Ollama's folder: what is found lies among the
// blobs, whole.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "store/ollama_store.h"
#include "store/sha256.h"
#include "support/test_folder.h"

namespace {

namespace fs = std::filesystem;

struct Folder {
  Folder() {
    fs::create_directories(folder.path() / "manifests/host/library/model");
    fs::create_directories(folder.path() / "blobs");
    for (const char digit : {'a', 'b', 'c'})
      folder.write("blobs/sha256-" + std::string(64, digit), R"({"stop":["<end>"]})");
    folder.write("secret", R"({"stop":["<end>"]})");
    fs::create_symlink("../secret", folder.path() / "blobs" / ("sha256-" + std::string(64, 'd')));
  }
  hearth::TestFolder folder;
  hearth::OllamaStore store{folder.path()};
};

void check(const hearth::OllamaStore& store, const hearth::Result<hearth::OllamaModel>& model) {
  if (!model) {
    if (model.error().message.empty()) __builtin_trap();
    return;
  }
  const fs::file_status status = fs::symlink_status(model->path);
  if (!fs::is_regular_file(status) || model->path.parent_path() != store.folder() / "blobs") __builtin_trap();
  if (!hearth::is_sha256(model->sha256) || fs::file_size(model->path) != model->bytes) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Folder folder;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const size_t line = std::min(text.find('\n'), size);
  folder.folder.write("manifests/host/library/model/latest", text.substr(std::min(line + 1, size)));
  check(folder.store, folder.store.find("model"));
  check(folder.store, folder.store.find(text.substr(0, line)));
  return 0;
}
