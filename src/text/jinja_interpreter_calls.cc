// Loops, calls and captures of the interpreter.
#include <algorithm>

#include "base/limits.h"
#include "text/jinja_interpreter.h"

namespace hearth::jinja {

Result<void> Interpreter::step_loop(const Instruction& instruction) {
  switch (instruction.op) {
    case Op::kLoopBegin:
      return begin_loop(instruction);
    case Op::kLoopNext:
      return next_item(instruction);
    case Op::kLoopEnd:
      return end_loop(instruction);
    case Op::kUnpack:
      return unpack(static_cast<size_t>(instruction.arg));
    case Op::kLoopElse:
      if (!iterators_.back().loop.as<LoopObject>().items.items().empty()) pc_ += instruction.arg;
      return {};
    case Op::kSelect: {
      Iterator& iterator = iterators_.back();
      const auto& loop = iterator.loop.as<LoopObject>();
      if (truth(pop())) iterator.selected.push_back(loop.items.items()[static_cast<size_t>(loop.index)]);
      return {};
    }
    case Op::kBreak:
    case Op::kContinue: {
      const Iterator& iterator = iterators_.back();
      while (scope_ != iterator.outer) pop_scope();
      for (; captures_.size() > iterator.captures; captures_.pop_back()) output_bytes_ -= captures_.back().size();
      stack_.resize(iterator.stack_size);
      pc_ += instruction.arg;
      return {};
    }
    default:
      return fail(Code::kInternal, "no instruction {}", static_cast<int>(instruction.op));
  }
}

Result<void> Interpreter::begin_loop(const Instruction& instruction) {
  Value items = pop();
  if (!items.is(Kind::kList) || items.is_list(ListKind::kGenerator)) {
    std::vector<Value> members = TRY(iterate(heap_, items));
    items = TRY(heap_.list(std::move(members)));
  }
  Iterator iterator;
  iterator.loop = TRY(heap_.loop(std::move(items)));
  iterator.outer = scope_;
  iterator.stack_size = stack_.size();
  iterator.captures = captures_.size();
  iterator.selecting = (instruction.sub & kSelecting) != 0;
  auto& loop = iterator.loop.as<LoopObject>();
  if ((instruction.sub & kRecursive) != 0) {
    loop.recursive_entry = instruction.extra;
    loop.scope = scope_;
    for (Scope* scope = scope_; scope != nullptr && !scope->captured; scope = scope->outer) scope->captured = true;
    if (!frames_.empty() && frames_.back().is_loop && frames_.back().iterators == iterators_.size())
      loop.depth0 = frames_.back().depth0;
  }
  iterators_.push_back(std::move(iterator));
  return {};
}

// Each item gets a scope of its own, so that nothing set in the body is seen in the next round.
Result<void> Interpreter::next_item(const Instruction& instruction) {
  Iterator& iterator = iterators_.back();
  while (scope_ != iterator.outer) pop_scope();
  auto& loop = iterator.loop.as<LoopObject>();
  const auto& items = loop.items.items();
  if (static_cast<size_t>(loop.index + 1) >= items.size()) {
    pc_ += instruction.arg;
    return {};
  }
  ++loop.index;
  TRY(push_scope(iterator.outer));
  if (!iterator.selecting) TRY(store(program_.loop_name, iterator.loop));
  push(items[static_cast<size_t>(loop.index)]);
  return {};
}

Result<void> Interpreter::end_loop(const Instruction& instruction) {
  Iterator ended = std::move(iterators_.back());
  iterators_.pop_back();
  if (ended.selecting) {
    push(TRY(heap_.list(std::move(ended.selected))));
    return {};
  }
  const bool called = (instruction.sub & kRecursive) != 0 && !frames_.empty() && frames_.back().is_loop &&
                      frames_.back().iterators == iterators_.size();
  return called ? leave_frame() : Result<void>();
}

Result<void> Interpreter::unpack(size_t count) {
  const Value sequence = pop();
  std::vector<Value> items = TRY(iterate(heap_, sequence));
  if (items.size() != count)
    return fail(Code::kMalformed, "cannot unpack {} values into {} names", items.size(), count);
  for (size_t i = items.size(); i > 0; --i) push(std::move(items[i - 1]));
  return {};
}

Result<void> Interpreter::step_call(const Instruction& instruction) {
  switch (instruction.op) {
    case Op::kCall:
    case Op::kCallMethod:
      return call(instruction);
    case Op::kFilter:
    case Op::kTest:
      return filter_or_test(instruction);
    case Op::kMacro:
      for (Scope* scope = scope_; scope != nullptr && !scope->captured; scope = scope->outer) scope->captured = true;
      push(TRY(heap_.macro(&program_.macros[static_cast<size_t>(instruction.arg)], scope_)));
      return {};
    case Op::kMacroReturn:
      return leave_frame();
    case Op::kCaptureBegin:
      captures_.emplace_back();
      return {};
    case Op::kCaptureEnd:
      return end_capture();
    default:
      return fail(Code::kInternal, "no instruction {}", static_cast<int>(instruction.op));
  }
}

Result<void> Interpreter::end_capture() {
  std::string text = std::move(captures_.back());
  captures_.pop_back();
  output_bytes_ -= text.size();
  push(TRY(heap_.string(std::move(text))));
  return {};
}

// Spreads *list and **dict over the stack; `names` become those of all named arguments.
Result<void> Interpreter::flatten_arguments(const CallShape& shape, std::vector<Value>& names, size_t& positional) {
  names = shape.names;
  positional = shape.positional;
  const Value dict = shape.dict_unpack ? pop() : Value::absent();
  const Value list = shape.list_unpack ? pop() : Value::absent();
  if (shape.list_unpack) {
    std::vector<Value> items = TRY(iterate(heap_, list));
    positional += items.size();
    stack_.insert(stack_.end() - static_cast<ptrdiff_t>(names.size()), items.begin(), items.end());
  }
  if (shape.dict_unpack) {
    if (!dict.is(Kind::kDict)) return type_error("'**' needs a mapping, not", dict);
    TRY(heap_.work(dict.entries().size()));
    for (const auto& [key, value] : dict.entries()) {
      if (!key.is_string()) return type_error("argument names are strings, not", key);
      names.push_back(key);
      push(value);
    }
  }
  return {};
}

Result<void> Interpreter::call(const Instruction& instruction) {
  const CallShape& shape = program_.shapes[static_cast<size_t>(instruction.arg)];
  const size_t base = stack_.size() - shape.size() - 1;  // of the callee or receiver
  std::vector<Value> names;
  size_t positional = shape.positional;
  const bool spread = shape.list_unpack || shape.dict_unpack;
  if (spread) TRY(flatten_arguments(shape, names, positional));
  const std::span<const Value> all = std::span(stack_).subspan(base + 1);
  const Arguments arguments{all.first(positional), spread ? std::span<const Value>(names) : shape.names,
                            all.subspan(positional)};
  const Value callee = stack_[base];
  if (instruction.op == Op::kCall) return invoke(callee, arguments, base);
  const Value& name = program_.constants[static_cast<size_t>(instruction.extra)];
  if (const Builtin* method = find_method(callee, name.text())) {
    Result<Value> result = method->call(environment_, callee, arguments);
    if (!result) return within(method->name, std::move(result).error());
    stack_.resize(base);
    push(*std::move(result));
    return {};
  }
  return invoke(TRY(attribute(heap_, callee, name)), arguments, base);
}

Result<void> Interpreter::invoke(const Value& callee, const Arguments& arguments, size_t stack_size) {
  Result<Value> result;
  std::string_view name;
  switch (callee.kind()) {
    case Kind::kMacro:
      return enter_macro(callee.as<MacroObject>(), arguments, stack_size);
    case Kind::kLoop:
      return enter_loop(callee.as<LoopObject>(), arguments, stack_size);
    case Kind::kFunction:
      name = callee.builtin()->name;
      result = callee.builtin()->call(environment_, Value::absent(), arguments);
      break;
    case Kind::kMethod: {
      const auto& method = callee.as<MethodObject>();
      name = method.method->name;
      result = method.method->call(environment_, method.receiver, arguments);
      break;
    }
    case Kind::kJoiner: {
      auto& joiner = callee.as<JoinerObject>();
      result = heap_.string(std::exchange(joiner.used, true) ? joiner.separator : std::string());
      break;
    }
    default:
      return type_error("cannot call", callee);
  }
  if (!result && result.error().code == Code::kInvalidArgument) return std::unexpected(std::move(result).error());
  if (!result) return within(name, std::move(result).error());
  stack_.resize(stack_size);
  push(*std::move(result));
  return {};
}

Result<void> Interpreter::enter_macro(const MacroObject& macro, const Arguments& arguments, size_t stack_size) {
  const MacroShape& shape = *macro.shape;
  if (frames_.size() >= limits::kTemplateCalls)
    return fail(Code::kLimit, "macro '{}' calls deeper than {} levels", shape.name.text(), limits::kTemplateCalls);
  Scope* const caller_scope = scope_;
  const size_t parameters = shape.parameters.size();
  std::vector<Value> bound(parameters, Value::absent());
  const size_t given = std::min(parameters, arguments.positional.size());
  std::copy_n(arguments.positional.begin(), given, bound.begin());
  std::vector<Entry> rest;
  Value caller;
  for (size_t i = 0; i < arguments.names.size(); ++i) {
    const Value& name = arguments.names[i];
    size_t at = 0;
    while (at < parameters && program_.names[static_cast<size_t>(shape.parameters[at])].text() != name.text()) ++at;
    if (at < parameters && !bound[at].is_absent())
      return fail(Code::kMalformed, "macro '{}' got argument '{}' twice", shape.name.text(), name.text());
    if (at < parameters) {
      bound[at] = arguments.named[i];
    } else if (name.text() == "caller" && shape.takes_caller) {
      caller = arguments.named[i];
    } else if (shape.takes_kwargs) {
      rest.emplace_back(name, arguments.named[i]);
    } else {
      return fail(Code::kMalformed, "macro '{}' takes no argument '{}'", shape.name.text(), name.text());
    }
  }
  if (arguments.positional.size() > parameters && !shape.takes_varargs)
    return fail(Code::kMalformed, "macro '{}' takes at most {} arguments, got {}", shape.name.text(), parameters,
                arguments.positional.size());
  std::vector<Value> varargs(arguments.positional.begin() + static_cast<ptrdiff_t>(given), arguments.positional.end());
  TRY(push_scope(macro.scope));
  for (size_t i = 0; i < parameters; ++i) {
    if (!bound[i].is_absent())
      TRY(store(shape.parameters[i], std::move(bound[i])));
    else if (!shape.has_default[i])
      TRY(store(shape.parameters[i], Value::undefined(program_.names[static_cast<size_t>(shape.parameters[i])])));
  }
  if (shape.takes_varargs) {
    Value rest_tuple = TRY(heap_.list(std::move(varargs), ListKind::kTuple));
    TRY(store(program_.varargs_name, std::move(rest_tuple)));
  }
  if (shape.takes_kwargs) {
    Value rest_dict = TRY(heap_.dict(std::move(rest)));
    TRY(store(program_.kwargs_name, std::move(rest_dict)));
  }
  if (shape.takes_caller && caller.is_undefined())
    caller = Value::undefined(program_.names[static_cast<size_t>(program_.caller_name)]);
  if (shape.takes_caller) TRY(store(program_.caller_name, std::move(caller)));
  stack_.resize(stack_size);
  frames_.push_back(
      {.return_to = pc_, .scope = caller_scope, .iterators = iterators_.size(), .is_loop = false, .depth0 = 0});
  captures_.emplace_back();
  pc_ = static_cast<size_t>(shape.entry);
  return {};
}

// loop(items) in a recursive loop: the same loop again over other items, as text.
Result<void> Interpreter::enter_loop(const LoopObject& loop, const Arguments& arguments, size_t stack_size) {
  if (loop.recursive_entry < 0) return fail(Code::kMalformed, "the loop is not marked 'recursive'");
  if (frames_.size() >= limits::kTemplateCalls)
    return fail(Code::kLimit, "a recursive loop goes deeper than {} levels", limits::kTemplateCalls);
  const auto bound = TRY(bind(arguments, {"iterable"}, 1));
  Scope* const outer = loop.scope;
  const int64_t depth0 = loop.depth0 + 1;
  const auto entry = static_cast<size_t>(loop.recursive_entry);
  stack_.resize(stack_size);
  push(bound[0]);
  frames_.push_back(
      {.return_to = pc_, .scope = scope_, .iterators = iterators_.size(), .is_loop = true, .depth0 = depth0});
  captures_.emplace_back();
  scope_ = outer;
  pc_ = entry;
  return {};
}

Result<void> Interpreter::leave_frame() {
  const Frame frame = frames_.back();
  frames_.pop_back();
  if (!frame.is_loop) pop_scope();
  scope_ = frame.scope;
  pc_ = frame.return_to;
  return end_capture();
}

Result<void> Interpreter::filter_or_test(const Instruction& instruction) {
  const bool is_filter = instruction.op == Op::kFilter;
  const auto constant = static_cast<size_t>(instruction.extra);
  const std::string_view name = program_.constants[constant].text();
  const Builtin*& builtin = is_filter ? filters_[constant] : tests_[constant];
  if (builtin == nullptr) builtin = is_filter ? find_filter(name) : find_test(name);
  if (builtin == nullptr)
    return fail(Code::kUnsupported, "no {} named '{}'", is_filter ? "filter" : "test", name.substr(0, 100));
  const CallShape& shape = program_.shapes[static_cast<size_t>(instruction.arg)];
  const size_t base = stack_.size() - shape.size() - 1;
  std::vector<Value> names;
  size_t positional = shape.positional;
  const bool spread = shape.list_unpack || shape.dict_unpack;
  if (spread) TRY(flatten_arguments(shape, names, positional));
  const std::span<const Value> all = std::span(stack_).subspan(base + 1);
  const Arguments arguments{all.first(positional), spread ? std::span<const Value>(names) : shape.names,
                            all.subspan(positional)};
  Result<Value> result = builtin->call(environment_, stack_[base], arguments);
  if (!result) return within(name, std::move(result).error());
  stack_.resize(base);
  push(*std::move(result));
  return {};
}

}  // namespace hearth::jinja
