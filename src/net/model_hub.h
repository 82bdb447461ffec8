// Repositories of a model hub with Hugging Face's interface: what files there are and which of them make up a model.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hearth {

inline constexpr std::string_view kDefaultHubEndpoint = "https://huggingface.co";

struct HubRepository {
  std::string owner;
  std::string name;
  std::string quant;  // empty: the best there is
};

// "owner/name", "owner/name:quant", each also after "hf.co/" or "huggingface.co/". kInvalidArgument for anything else.
Result<HubRepository> parse_hub_repository(std::string_view text);

struct HubFile {
  std::string path;  // in the repository, may have folders
  std::optional<uint64_t> bytes;
  std::string sha256;  // lower-case hex; empty for small files, which the hub gives no SHA-256 of
};

struct HubListing {
  std::string commit;  // the version all files are fetched from
  std::vector<HubFile> files;
};

// Address of the listing, and of one file at the listing's commit.
std::string hub_listing_url(std::string_view endpoint, const HubRepository& repository);
std::string hub_file_url(std::string_view endpoint, const HubRepository& repository, const HubListing& listing,
                         const HubFile& file);

// kMalformed names the field. Files with strange paths (absolute, "..", control characters) are refused.
Result<HubListing> parse_hub_listing(std::string_view json);

// The files to fetch, in this order of choice: those that match `pattern` (shell wildcards over the path, if not
// empty); the .gguf of the wanted quant, all parts if it is split; without a wanted quant the first of a list from
// Q4_K_M down; if there is no .gguf, the safetensors files with configuration and tokenizer. kNotFound lists what there
// is.
Result<std::vector<HubFile>> choose_hub_files(const HubListing& listing, std::string_view quant,
                                              std::string_view pattern);

// True for the files that belong to a model in a Hugging Face folder: config.json, tokenizer files, *.safetensors, ...
bool belongs_to_model_folder(std::string_view file_name);

}  // namespace hearth
