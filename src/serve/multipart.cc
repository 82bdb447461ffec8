#include "serve/multipart.h"

#include "base/limits.h"

namespace hearth::serve {
namespace {

// The value of `name` in `text; name="value"` or `name=value`; empty if it is not there.
std::string_view parameter(std::string_view text, std::string_view name) {
  for (size_t at = text.find(';'); at != std::string_view::npos; at = text.find(';', at + 1)) {
    std::string_view rest = text.substr(at + 1);
    rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
    if (!rest.starts_with(name) || rest.substr(name.size()).substr(0, 1) != "=") continue;
    rest.remove_prefix(name.size() + 1);
    if (!rest.starts_with('"')) return rest.substr(0, rest.find_first_of("; "));
    rest.remove_prefix(1);
    return rest.substr(0, rest.find('"'));
  }
  return {};
}

// Everything before `mark`, which is taken off, too; false if it is not there.
bool take_until(std::string_view& rest, std::string_view mark, std::string_view& taken) {
  const size_t end = rest.find(mark);
  if (end == std::string_view::npos) return false;
  taken = rest.substr(0, end);
  rest.remove_prefix(end + mark.size());
  return true;
}

}  // namespace

Result<std::vector<FormPart>> read_form(std::string_view content_type, std::string_view body) {
  const std::string_view boundary = parameter(content_type, "boundary");
  if (!content_type.starts_with("multipart/form-data") || boundary.empty() || boundary.size() > 70)
    return fail(Code::kMalformed, "want a body of type multipart/form-data with a boundary of at most 70 characters");
  const std::string first = "--" + std::string(boundary), next = "\r\n" + first;
  std::vector<FormPart> parts;
  std::string_view rest = body, ignored;
  if (!take_until(rest, first, ignored)) return fail(Code::kMalformed, "the form has no part");
  while (!rest.starts_with("--")) {
    FormPart part;
    std::string_view headers;
    if (!rest.starts_with("\r\n") || !take_until(rest, "\r\n\r\n", headers) || !take_until(rest, next, part.content))
      return fail(Code::kMalformed, "part {} of the form is cut short", parts.size());
    for (std::string_view line = headers, one; !line.empty();) {
      if (!take_until(line, "\r\n", one)) one = std::exchange(line, {});
      if (one.size() < 20 || (one[0] | 0x20) != 'c' || !one.substr(7).starts_with(one[8] == 'D' ? "-D" : "-d"))
        continue;
      if (const auto name = parameter(one, "name"); !name.empty()) part.name = name;
      if (const auto name = parameter(one, "filename"); !name.empty()) part.file_name = name;
    }
    if (parts.size() == limits::kFormParts)
      return fail(Code::kLimit, "the form has more than {} parts", limits::kFormParts);
    parts.push_back(part);
  }
  return parts;
}

}  // namespace hearth::serve
