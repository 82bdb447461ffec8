// Reading the fields of a JSON body. What clients send beyond what is known is ignored; what is known and wrong is an error that
// names the field ("messages[2].content: ...").
#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hearth::serve {

// The fields of one object. Reads remember the first error and go on with "not there": look at check() before using what was
// read. A null is as good as absent. The object and the Fields it came from outlive this.
class Fields {
 public:
  Fields(const boost::json::object& object, std::string path = {}) : object_(&object), path_(std::move(path)) {}
  // `value` has to be an object.
  Fields(const boost::json::value& value, std::string path);

  std::optional<std::string> text(std::string_view name);
  std::optional<bool> flag(std::string_view name);
  std::optional<double> number(std::string_view name, double least, double most);
  // A whole number; 3.0 is one, "3" is none.
  std::optional<int64_t> integer(std::string_view name, int64_t least, int64_t most);
  const boost::json::object* object(std::string_view name);
  const boost::json::array* array(std::string_view name);
  // A text or a list of texts.
  std::vector<std::string> texts(std::string_view name);
  // One of `words`, by its place.
  std::optional<size_t> word(std::string_view name, std::initializer_list<std::string_view> words);

  [[nodiscard]] const boost::json::value* find(std::string_view name) const;
  [[nodiscard]] std::string path_of(std::string_view name) const;
  // Remembers an error at a field, unless there was one before.
  void wrong(std::string_view name, std::string_view what);
  void wrong(Error error);
  [[nodiscard]] Result<void> check() const;

 private:
  const boost::json::object* object_;
  std::string path_;
  std::optional<Error> error_;
};

// What a value is, for messages: "a string", "an array", "3".
std::string kind_of(const boost::json::value& value);

}  // namespace hearth::serve
