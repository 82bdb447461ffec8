#include "text/jinja_builtins.h"

namespace hearth::jinja {
namespace {
// These filters pass over anything false, even what cannot be iterated.
Result<std::vector<Value>> members_of(Heap& heap, const Value& value) {
  return truth(value) ? iterate(heap, value) : std::vector<Value>();
}

// The rest of the arguments, for the test or filter named among them.
Arguments behind(const Arguments& arguments, size_t positional) {
  Arguments rest = arguments;
  rest.positional = arguments.positional.subspan(std::min(positional, arguments.positional.size()));
  return rest;
}

Result<Value> named_argument(const Arguments& arguments, std::string_view name) {
  for (size_t i = 0; i < arguments.names.size(); ++i)
    if (arguments.names[i].text() == name) return arguments.named[i];
  return Value::absent();
}

Result<Value> map(Environment& environment, const Value& value, const Arguments& arguments) {
  const Value path = TRY(named_argument(arguments, "attribute"));
  const Value otherwise = TRY(named_argument(arguments, "default"));
  const Builtin* filter = nullptr;
  if (path.is_absent()) {
    if (arguments.positional.empty()) return fail(Code::kMalformed, "needs a filter or 'attribute'");
    const std::string_view name = TRY(text_argument(arguments.positional[0], "filter"));
    filter = find_filter(name);
    if (filter == nullptr) return fail(Code::kUnsupported, "no filter named '{}'", name.substr(0, 100));
  }
  std::vector<Value> mapped;
  for (const Value& member : TRY(members_of(environment.heap, value))) {
    if (filter != nullptr) {
      mapped.push_back(TRY(filter->call(environment, member, behind(arguments, 1))));
      continue;
    }
    Value part = TRY(path_item(environment.heap, member, path));
    mapped.push_back(part.is_undefined() && !otherwise.is_absent() ? otherwise : std::move(part));
  }
  return environment.heap.list(std::move(mapped), ListKind::kGenerator);
}

// select and reject test the items themselves, selectattr and rejectattr one attribute; without a test it is truth.
Result<Value> choose(Environment& environment, const Value& value, const Arguments& arguments, bool by_attribute,
                     bool wanted) {
  const size_t skip = by_attribute ? 1 : 0;
  if (arguments.positional.size() < skip) return fail(Code::kMalformed, "needs an attribute");
  const Builtin* test = nullptr;
  if (arguments.positional.size() > skip) {
    const std::string_view name = TRY(text_argument(arguments.positional[skip], "test"));
    test = find_test(name);
    if (test == nullptr) return fail(Code::kUnsupported, "no test named '{}'", name.substr(0, 100));
  }
  std::vector<Value> chosen;
  for (const Value& member : TRY(members_of(environment.heap, value))) {
    const Value subject = by_attribute ? TRY(path_item(environment.heap, member, arguments.positional[0])) : member;
    const bool holds =
        test == nullptr ? truth(subject) : truth(TRY(test->call(environment, subject, behind(arguments, skip + 1))));
    if (holds == wanted) chosen.push_back(member);
  }
  return environment.heap.list(std::move(chosen), ListKind::kGenerator);
}
Result<Value> select(Environment& e, const Value& v, const Arguments& a) { return choose(e, v, a, false, true); }
Result<Value> reject(Environment& e, const Value& v, const Arguments& a) { return choose(e, v, a, false, false); }
Result<Value> selectattr(Environment& e, const Value& v, const Arguments& a) { return choose(e, v, a, true, true); }
Result<Value> rejectattr(Environment& e, const Value& v, const Arguments& a) { return choose(e, v, a, true, false); }

constexpr std::array kSelectionFilters{Builtin{"map", map}, Builtin{"select", select}, Builtin{"reject", reject},
                                       Builtin{"selectattr", selectattr}, Builtin{"rejectattr", rejectattr}};
}  // namespace

std::span<const Builtin> selection_filters() { return kSelectionFilters; }

}  // namespace hearth::jinja
