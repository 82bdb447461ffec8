// How fast this machine reads weights for one token, with its own kernels: what a plan needs to know of it.
#pragma once

#include "backend/backend.h"

namespace hearth::cluster {

// Bytes of weights per second, of products with one row over 40 MB of 4-bit weights. Takes about a quarter of a second and that memory.
Result<double> measure_decode(Backend& backend);

}  // namespace hearth::cluster
