// `--stages auto`: which machines of the site run which layers, from what they say of themselves and a look at the way to each.
#pragma once

#include "cli/model_options.h"
#include "cluster/presence.h"
#include "cluster/remote_chain.h"

namespace hearth::cli {

// Fills in nodes and plan, and who has the head if that is another one; machines that get no layers are spare. kNotFound without a broker; kLimit: it fits nowhere.
Result<void> choose_stages(const ModelOptions& options, const Model& model, const DecoderConfig& config,
                           cluster::Presence* presence, cluster::RemoteChainOptions& chain,
                           std::optional<ListenAddress>& head);

}  // namespace hearth::cli
