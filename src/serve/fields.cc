#include "serve/fields.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <cmath>

namespace hearth::serve {
namespace {
const boost::json::object kEmpty;
}

std::string kind_of(const boost::json::value& value) {
  switch (value.kind()) {
    case boost::json::kind::null:
      return "null";
    case boost::json::kind::bool_:
      return value.get_bool() ? "true" : "false";
    case boost::json::kind::int64:
      return fmt::format("{}", value.get_int64());
    case boost::json::kind::uint64:
      return fmt::format("{}", value.get_uint64());
    case boost::json::kind::double_:
      return fmt::format("{}", value.get_double());
    case boost::json::kind::string:
      return "a string";
    case boost::json::kind::array:
      return "an array";
    case boost::json::kind::object:
      return "an object";
  }
  return {};
}

Fields::Fields(const boost::json::value& value, std::string path) : object_(value.if_object()), path_(std::move(path)) {
  if (object_) return;
  object_ = &kEmpty;
  const std::string where = path_.empty() ? "the body" : path_;
  error_ = Error{Code::kInvalidArgument, fmt::format("{}: need an object, got {}", where, kind_of(value))};
}

std::string Fields::path_of(std::string_view name) const {
  return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
}

void Fields::wrong(std::string_view name, std::string_view what) {
  wrong(Error{Code::kInvalidArgument, fmt::format("{}: {}", path_of(name), what)});
}
void Fields::wrong(Error error) {
  if (!error_) error_ = std::move(error);
}
Result<void> Fields::check() const {
  if (error_) return std::unexpected(*error_);
  return {};
}

const boost::json::value* Fields::find(std::string_view name) const {
  const auto* value = object_->if_contains(name);
  return value && !value->is_null() ? value : nullptr;
}

std::optional<std::string> Fields::text(std::string_view name) {
  const auto* value = find(name);
  if (value && value->is_string()) return std::string(value->get_string());
  if (value) wrong(name, fmt::format("need a string, got {}", kind_of(*value)));
  return {};
}

std::optional<bool> Fields::flag(std::string_view name) {
  const auto* value = find(name);
  if (value && value->is_bool()) return value->get_bool();
  if (value) wrong(name, fmt::format("need true or false, got {}", kind_of(*value)));
  return {};
}

std::optional<double> Fields::number(std::string_view name, double least, double most) {
  const auto* value = find(name);
  if (!value) return {};
  if (!value->is_number()) {
    wrong(name, fmt::format("need a number, got {}", kind_of(*value)));
    return {};
  }
  const auto number = value->to_number<double>();
  if (std::isfinite(number) && number >= least && number <= most) return number;
  wrong(name, fmt::format("need a number from {} to {}, got {}", least, most, number));
  return {};
}

std::optional<int64_t> Fields::integer(std::string_view name, int64_t least, int64_t most) {
  const auto* value = find(name);
  if (!value) return {};
  std::optional<int64_t> number;
  if (value->is_int64()) number = value->get_int64();
  if (value->is_uint64() && value->get_uint64() <= INT64_MAX) number = static_cast<int64_t>(value->get_uint64());
  constexpr double kExact = 9e15;  // below it every whole double is an integer of its own
  if (const double* d = value->if_double(); d && std::abs(*d) < kExact && std::trunc(*d) == *d)
    number = static_cast<int64_t>(*d);
  if (number && *number >= least && *number <= most) return number;
  wrong(name, fmt::format("need a whole number from {} to {}, got {}", least, most, kind_of(*value)));
  return {};
}

const boost::json::object* Fields::object(std::string_view name) {
  const auto* value = find(name);
  if (value && !value->is_object()) wrong(name, fmt::format("need an object, got {}", kind_of(*value)));
  return value ? value->if_object() : nullptr;
}

const boost::json::array* Fields::array(std::string_view name) {
  const auto* value = find(name);
  if (value && !value->is_array()) wrong(name, fmt::format("need an array, got {}", kind_of(*value)));
  return value ? value->if_array() : nullptr;
}

std::vector<std::string> Fields::texts(std::string_view name) {
  const auto* value = find(name);
  if (!value) return {};
  if (value->is_string()) return {std::string(value->get_string())};
  const auto* array = value->if_array();
  std::vector<std::string> texts;
  for (const auto& item : array ? *array : boost::json::array())
    if (item.is_string()) texts.emplace_back(item.get_string());
  if (!array || texts.size() != array->size()) wrong(name, "need a string or an array of strings");
  return texts;
}

std::optional<size_t> Fields::word(std::string_view name, std::initializer_list<std::string_view> words) {
  const auto* value = find(name);
  if (!value) return {};
  const auto* given = value->if_string();
  const auto* found = given ? std::ranges::find(words, std::string_view(*given)) : words.end();
  if (found != words.end()) return static_cast<size_t>(found - words.begin());
  wrong(name, fmt::format("need one of {}, got {}", fmt::join(words, ", "), given ? "another word" : kind_of(*value)));
  return {};
}

}  // namespace hearth::serve
