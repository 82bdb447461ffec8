// --cores: which kinds of cores generate, and the probing of the loaded model that decides it.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/power_options.h"
#include "model/model.h"
#include "power/sensors.h"

namespace hearth::cli {

// For models that are loaded, before an engine drives them. The first decides, the others do as it did.
using SettleCores = std::function<Result<void>(Model& model, KvType kv_type)>;

// Sets `n_threads` to what --cores needs; before the backend is made. Empty: with fast, and where there is one kind of cores.
class CoreOptions {
 public:
  // `root`: of the system's files (a made-up one in tests).
  static Result<CoreOptions> prepare(const PowerOptions& power, int& n_threads,
                                     const std::filesystem::path& root = "/");
  // With a governor, which hears of the decision.
  [[nodiscard]] SettleCores settle(std::shared_ptr<power::Governor> governor) const;

 private:
  std::vector<power::CoreClass> classes_{};
  bool probe_ = false;
  double watts_per_core_ = 0;
  std::filesystem::path root_{};
  std::string note_{};  // for the log
};

}  // namespace hearth::cli
