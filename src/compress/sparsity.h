// What it would be worth to leave out the small activations before a feed-forward's last matrix (ffn_down), whose columns for them
// would not have to be read (Liu et al. 2024, TEAL).
#pragma once

#include <functional>
#include <vector>

#include "compress/recording_backend.h"
#include "compress/source_model.h"
#include "model/model.h"

namespace hearth::compress {

// With this share of each row's activations left out, the smallest ones.
struct SparsityTrade {
  double share = 0;
  double mean_kld = 0, same_top = 0;  // against the model as it is
  double blocks = 0;         // share of blocks of 32 of which nothing is left: what formats with blocks could leave out
  double saved_columns = 0;  // of the bytes of weights a token reads, if single columns could be left out at no cost
  double saved_blocks = 0;   // and if whole blocks could
};

// `model` was loaded on `recorder`. Of each piece the later half counts. kUnsupported for mixtures of experts.
Result<std::vector<SparsityTrade>> measure_sparsity(const Model& model, RecordingBackend& recorder,
                                                    const Chunks& pieces, std::span<const double> shares, int n_threads,
                                                    const std::function<void(double share)>& progress);

}  // namespace hearth::compress
