// The tiny real model, loaded.
#pragma once

#include <gtest/gtest.h>

#include "model/model.h"
#include "support/real_model.h"

namespace hearth {

// Rows of one step: whatever scratch the decoder would take by itself, tests can ask for so many.
constexpr int kStepRowsMax = 512;

inline Model load_tiny_model(std::string_view isa = {}, int n_threads = 2) {
  const auto path = test::real_model();
  if (!path) {
    ADD_FAILURE()
        << "the tiny model is not there; ./dev test fetches it, or: HEARTH_HOME=$PWD/build/home ./dev fetch tiny";
    std::exit(1);
  }
  auto backend = create_backend("cpu", {.n_threads = n_threads, .isa = std::string(isa)});
  auto model = load_model(*path, std::move(*backend), {.context = 512, .rows_max = kStepRowsMax, .progress = {}});
  if (!model) {
    ADD_FAILURE() << model.error().message;
    std::exit(1);
  }
  return std::move(*model);
}

}  // namespace hearth
