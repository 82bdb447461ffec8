#include "text/jinja_builtins.h"

#include <algorithm>
#include <charconv>
#include <ctime>

#include "base/limits.h"

namespace hearth::jinja {

const Builtin* find_in(std::span<const Builtin> table, std::string_view name) {
  const auto row = std::find_if(table.begin(), table.end(), [&](const Builtin& b) { return b.name == name; });
  return row == table.end() ? nullptr : &*row;
}

const Builtin* find_filter(std::string_view name) {
  for (const auto table : {text_filters(), number_filters(), sequence_filters(), selection_filters()})
    if (const Builtin* found = find_in(table, name)) return found;
  return nullptr;
}

Result<void> bind_into(std::span<Value> bound, std::span<const std::string_view> parameters, size_t required,
                       const Arguments& arguments) {
  std::fill(bound.begin(), bound.end(), Value::absent());
  if (arguments.positional.size() > parameters.size())
    return fail(Code::kMalformed, "takes at most {} arguments, got {}", parameters.size(), arguments.positional.size());
  std::copy(arguments.positional.begin(), arguments.positional.end(), bound.begin());
  for (size_t i = 0; i < arguments.names.size(); ++i) {
    const std::string_view name = arguments.names[i].text();
    const auto at = static_cast<size_t>(std::find(parameters.begin(), parameters.end(), name) - parameters.begin());
    if (at == parameters.size()) return fail(Code::kMalformed, "has no argument '{}'", name.substr(0, 100));
    if (!bound[at].is_absent()) return fail(Code::kMalformed, "got argument '{}' twice", name);
    bound[at] = arguments.named[i];
  }
  for (size_t i = 0; i < required; ++i)
    if (bound[i].is_absent()) return fail(Code::kMalformed, "misses the argument '{}'", parameters[i]);
  return {};
}

Result<void> takes_nothing(const Arguments& arguments) { return bind_into({}, {}, 0, arguments); }

Result<int64_t> integer_or(const Value& value, int64_t otherwise, std::string_view what) {
  if (value.is_absent()) return otherwise;
  if (!value.is_integer()) return type_error(fmt::format("'{}' must be an integer, not", what), value);
  return value.integer();
}

bool boolean_or(const Value& value, bool otherwise) { return value.is_absent() ? otherwise : truth(value); }

Result<std::string_view> text_argument(const Value& value, std::string_view what) {
  if (!value.is_string()) return type_error(fmt::format("'{}' must be a string, not", what), value);
  return value.text();
}

Result<std::string_view> text_or(const Value& value, std::string_view otherwise, std::string_view what) {
  return value.is_absent() ? Result<std::string_view>(otherwise) : text_argument(value, what);
}

Result<Value> path_item(Heap& heap, const Value& start, const Value& path) {
  if (!path.is_string()) return item(heap, start, path);
  Value at = start;
  std::string_view rest = path.text();
  for (bool more = true; more;) {
    const size_t dot = rest.find('.');
    const std::string_view part = rest.substr(0, dot);
    more = dot != std::string_view::npos;
    if (more) rest.remove_prefix(dot + 1);
    int64_t index = 0;
    const auto [end, status] = std::from_chars(part.data(), part.data() + part.size(), index);
    const bool number = status == std::errc() && end == part.data() + part.size() && index >= 0;
    const Value key = number ? Value(index) : TRY(heap.string(std::string(part)));
    at = TRY(item(heap, at, key));
  }
  return at;
}

namespace {
Result<Value> range(Environment& environment, const Value&, const Arguments& arguments) {
  const auto bound = TRY(bind(arguments, {"start", "stop", "step"}, 1));
  const bool one = bound[1].is_absent();
  const int64_t start = one ? 0 : TRY(integer_or(bound[0], 0, "start"));
  const int64_t stop = TRY(integer_or(one ? bound[0] : bound[1], 0, "stop"));
  const int64_t step = TRY(integer_or(bound[2], 1, "step"));
  if (step == 0) return fail(Code::kMalformed, "step must not be zero");
  const bool empty = step > 0 ? start >= stop : start <= stop;
  // Unsigned distances cannot overflow.
  const uint64_t distance = empty      ? 0
                            : step > 0 ? static_cast<uint64_t>(stop) - static_cast<uint64_t>(start)
                                       : static_cast<uint64_t>(start) - static_cast<uint64_t>(stop);
  const uint64_t stride = step > 0 ? static_cast<uint64_t>(step) : 0 - static_cast<uint64_t>(step);
  const uint64_t count = empty ? 0 : (distance - 1) / stride + 1;
  if (count > limits::kTemplateRange)
    return fail(Code::kLimit, "a range of {} numbers is over the limit of {}", count, limits::kTemplateRange);
  TRY(environment.heap.work(count));
  std::vector<Value> items;
  items.reserve(count);
  for (uint64_t i = 0; i < count; ++i)
    items.emplace_back(static_cast<int64_t>(static_cast<uint64_t>(start) + i * static_cast<uint64_t>(step)));
  return environment.heap.list(std::move(items), ListKind::kRange);
}

Result<std::vector<Entry>> named_entries(Environment& environment, const Arguments& arguments) {
  std::vector<Entry> entries;
  if (arguments.positional.size() > 1) return fail(Code::kMalformed, "takes at most 1 positional argument");
  if (!arguments.positional.empty()) {
    const Value& first = arguments.positional[0];
    if (first.is_undefined()) return undefined_error(first);
    if (first.is(Kind::kDict) || first.is(Kind::kNamespace)) {
      entries = first.entries();
    } else {
      for (const Value& pair : TRY(iterate(environment.heap, first))) {
        if (!pair.is(Kind::kList) || pair.items().size() != 2) return type_error("needs pairs, not", pair);
        entries.emplace_back(pair.items()[0], pair.items()[1]);
      }
    }
  }
  for (size_t i = 0; i < arguments.names.size(); ++i) entries.emplace_back(arguments.names[i], arguments.named[i]);
  return entries;
}

Result<Value> dict(Environment& environment, const Value&, const Arguments& arguments) {
  return make_dict(environment.heap, TRY(named_entries(environment, arguments)));
}

Result<Value> name_space(Environment& environment, const Value& receiver, const Arguments& arguments) {
  const Value unique = TRY(dict(environment, receiver, arguments));
  return environment.heap.name_space(unique.entries());
}

Result<Value> raise_exception(Environment& environment, const Value&, const Arguments& arguments) {
  const auto bound = TRY(bind(arguments, {"message"}, 1));
  return fail(Code::kInvalidArgument, "{}", TRY(text_of(environment.heap, bound[0])));
}

Result<Value> strftime_now(Environment& environment, const Value&, const Arguments& arguments) {
  const auto bound = TRY(bind(arguments, {"format"}, 1));
  const std::string format(TRY(text_argument(bound[0], "format")));
  if (!environment.date_string.empty()) return environment.heap.string(std::string(environment.date_string));
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  if (localtime_r(&now, &parts) == nullptr) return fail(Code::kIo, "the system has no local time");
  std::string text(256, '\0');
  text.resize(std::strftime(text.data(), text.size(), format.c_str(), &parts));
  return environment.heap.string(std::move(text));
}

Result<Value> cycler(Environment& environment, const Value&, const Arguments& arguments) {
  if (arguments.positional.empty()) return fail(Code::kMalformed, "needs at least one item");
  return environment.heap.cycler({arguments.positional.begin(), arguments.positional.end()});
}

Result<Value> joiner(Environment& environment, const Value&, const Arguments& arguments) {
  const auto bound = TRY(bind(arguments, {"sep"}));
  return environment.heap.joiner(std::string(TRY(text_or(bound[0], ", ", "sep"))));
}

constexpr std::array kGlobals{
    Builtin{"range", range},
    Builtin{"dict", dict},
    Builtin{"namespace", name_space},
    Builtin{"raise_exception", raise_exception},
    Builtin{"strftime_now", strftime_now},
    Builtin{"cycler", cycler},
    Builtin{"joiner", joiner},
};
}  // namespace

const Builtin* find_global(std::string_view name) { return find_in(kGlobals, name); }

}  // namespace hearth::jinja
