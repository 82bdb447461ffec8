// Exit heads (model/exits.h) fitted in closed form, and what they are worth.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "compress/source_model.h"
#include "model/exits.h"
#include "model/model.h"

namespace hearth::compress {

struct ExitFitOptions {
  std::vector<int> layers;  // to fit exits after; empty: a few, spread over the model
  double ridge = 1e-3;      // how little rare directions are trusted, in mean second moments
  KvType kv_type = KvType::kF16;
  int n_threads = 1;
  std::vector<double> bounds{0.02, 0.05, 0.1};  // of the mean divergence
  std::function<void(std::string_view what, double share)>
      progress{};  // of each of the parts one after the other; may be empty
};

// Texts of three kinds, which have no piece in common.
struct ExitTexts {
  Chunks fit, tune, judge;
};

// An exit that all tokens took, on text nothing was fitted to: what their guess is worth. Layers above are read by nobody.
struct ExitTrade {
  int layers = 0;
  double mean_kld = 0, kld_p99 = 0, same_top = 0;
  double saved =
      0;  // of the bytes of weights that a token reads, with keys and values of the layers above still computed
};

struct ExitReport {
  int n_layers = 0;
  size_t fit_tokens = 0, tune_tokens = 0, judged_tokens = 0;
  std::vector<ExitTrade> trades;
  double step_ratio = 0;  // time of single steps without exits over with those of the best bound; 0: none is worth it
};

struct ExitFit {
  ExitFile file;
  ExitReport report;
};

// Memory: for each exit twice its squared width in floats. kInvalidArgument for layers that are not there; kUnsupported for models that
// cannot leave early.
Result<ExitFit> fit_exits(const Model& model, const ExitTexts& texts, const ExitFitOptions& options);

// In place of `right` [k][n] the solution of a x = right, for a symmetric and positive [k][k]; both are overwritten. False if it is not
// positive. Cholesky's: a = U^T U by rows, so that inner loops go along rows.
bool solve_positive(std::span<double> a, int64_t k, std::span<double> right, int64_t n);

}  // namespace hearth::compress
