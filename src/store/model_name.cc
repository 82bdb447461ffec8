#include "store/model_name.h"

#include <algorithm>
#include <numeric>

#include "base/limits.h"

namespace hearth {
namespace {

bool lower_or_digit(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }
bool mark(char c) { return c == '.' || c == '_' || c == '-'; }
char to_lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// What is wrong with one part of a name, or nullptr.
const char* part_fault(std::string_view part) {
  if (part.empty()) return "an empty part";
  if (!lower_or_digit(part.front())) return "a part that does not begin with a letter or a digit";
  const bool clean = std::ranges::all_of(part, [](char c) { return lower_or_digit(c) || mark(c); });
  return clean ? nullptr : "a character other than a-z, 0-9, '.', '_', '-'";
}

// Levenshtein distance, two rows.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] != b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

}  // namespace

Result<void> check_model_name(std::string_view name) {
  if (name.size() > limits::kModelNameBytes) {
    return fail(Code::kInvalidArgument, "model name of {} bytes, at most {} are allowed", name.size(),
                limits::kModelNameBytes);
  }
  const size_t colon = name.find(':');
  std::string_view path = name.substr(0, colon);
  const char* fault = colon == std::string_view::npos ? nullptr : part_fault(name.substr(colon + 1));
  if (const size_t slash = path.find('/'); slash != std::string_view::npos) {
    if (!fault) fault = part_fault(path.substr(0, slash));
    path = path.substr(slash + 1);
  }
  if (!fault) fault = part_fault(path);
  if (!fault) return {};
  return fail(Code::kInvalidArgument, "model name '{}' has {}; a name looks like qwen2.5-coder, owner/name or name:tag",
              printable(name), fault);
}

Result<void> check_file_name(std::string_view name) {
  const bool clean = !name.empty() && name.size() <= limits::kModelNameBytes && !mark(name.front()) &&
                     std::ranges::all_of(name, [](char c) { return lower_or_digit(to_lower(c)) || mark(c); }) &&
                     name != "manifest.json";
  if (clean) return {};
  return fail(Code::kInvalidArgument,
              "file name '{}' cannot be stored: only A-Z, a-z, 0-9, '.', '_', '-' and at most {} bytes",
              printable(name), limits::kModelNameBytes);
}

std::string model_folder(std::string_view name) {
  std::string folder(name);
  std::ranges::replace(folder, '/', '@');
  return folder;
}

std::string model_of_folder(std::string_view folder) {
  std::string name(folder);
  std::ranges::replace(name, '@', '/');
  return name;
}

Result<std::string> model_name_from(std::string_view text) {
  std::string name = lower_case(text);
  std::ranges::replace_if(name, [](char c) { return !lower_or_digit(c) && !mark(c) && c != '/' && c != ':'; }, '-');
  if (auto checked = check_model_name(name); !checked) {
    return fail(Code::kInvalidArgument, "no model name can be made of '{}'; give one with --name", printable(text));
  }
  return name;
}

std::string lower_case(std::string_view text) {
  std::string lower(text);
  std::ranges::transform(lower, lower.begin(), to_lower);
  return lower;
}

std::vector<std::string> near_names(std::string_view name, const std::vector<std::string>& names) {
  std::vector<std::pair<size_t, std::string>> ranked;
  for (const std::string& candidate : names) {
    const bool contained = name.size() >= 3 && candidate.find(name) != std::string::npos;
    const size_t distance = contained ? 1 : edit_distance(name.substr(0, limits::kModelNameBytes), candidate);
    if (distance <= std::max<size_t>(2, candidate.size() / 4)) ranked.emplace_back(distance, candidate);
  }
  std::ranges::sort(ranked);
  std::vector<std::string> best;
  for (size_t i = 0; i < std::min<size_t>(3, ranked.size()); ++i) best.push_back(std::move(ranked[i].second));
  return best;
}

std::string printable(std::string_view text) {
  std::string clean;
  for (const char c : text.substr(0, limits::kModelNameBytes)) clean += c >= ' ' && c <= '~' ? c : '?';
  if (text.size() > limits::kModelNameBytes) clean += "...";
  return clean;
}

}  // namespace hearth
