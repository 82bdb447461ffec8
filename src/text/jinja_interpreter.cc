#include "text/jinja_interpreter.h"

#include <algorithm>

#include "base/limits.h"

namespace hearth::jinja {
namespace {
constexpr uint64_t kVariableBytes = sizeof(std::pair<int32_t, Value>);

Value* find_in_scope(Scope& scope, int32_t name) {
  for (auto& [id, value] : scope.variables)
    if (id == name) return &value;
  return nullptr;
}
}  // namespace

Interpreter::Interpreter(const Program& program, std::string_view date_string)
    : program_(program),
      environment_{heap_, date_string},
      root_(&scopes_.emplace_back()),
      scope_(root_),
      root_position_(program.names.size(), -1),
      filters_(program.constants.size()),
      tests_(program.constants.size()) {
  root_->captured = true;
  captures_.emplace_back();
  globals_.reserve(program.names.size());
  for (const Value& name : program.names) globals_.push_back(find_global(name.text()));
}

void Interpreter::define(std::string_view name, const Value& value) {
  const auto found = program_.name_ids.find(name);
  if (found == program_.name_ids.end()) return;
  int32_t& position = root_position_[static_cast<size_t>(found->second)];
  if (position < 0) {
    position = static_cast<int32_t>(root_->variables.size());
    root_->variables.emplace_back(found->second, value);
  } else {
    root_->variables[static_cast<size_t>(position)].second = value;
  }
}

Result<std::string> Interpreter::run() {
  for (;;) {
    const Instruction& instruction = program_.code[pc_++];
    if (instruction.op == Op::kHalt) return std::move(captures_.front());
    Result<void> done = heap_.work(1);
    if (done) done = step(instruction);
    if (done) continue;
    if (done.error().code != Code::kInvalidArgument)
      return within(fmt::format("chat template line {}", instruction.line), std::move(done).error());
    return std::unexpected(std::move(done).error());
  }
}

Result<void> Interpreter::step(const Instruction& instruction) {
  switch (instruction.op) {
    case Op::kText:
      return output(program_.constants[static_cast<size_t>(instruction.arg)].text());
    case Op::kEmit:
      return emit(pop());
    case Op::kConst:
      push(program_.constants[static_cast<size_t>(instruction.arg)]);
      return {};
    case Op::kAbsentElse:
      push(Value());
      return {};
    case Op::kLoad:
      push(TRY(load(instruction.arg)));
      return {};
    case Op::kStore:
      return store(instruction.arg, pop());
    case Op::kStoreAttribute:
      return store_attribute(instruction.extra, program_.constants[static_cast<size_t>(instruction.arg)], pop());
    case Op::kJump:
      pc_ += instruction.arg;
      return {};
    case Op::kJumpIfFalse:
      if (!truth(pop())) pc_ += instruction.arg;
      return {};
    case Op::kJumpIfFalseKeep:
    case Op::kJumpIfTrueKeep:
      if (truth(top()) == (instruction.op == Op::kJumpIfTrueKeep)) {
        pc_ += instruction.arg;
      } else {
        pop();
      }
      return {};
    case Op::kJumpIfGiven:
      if (find_in_scope(*scope_, instruction.extra) != nullptr) pc_ += instruction.arg;
      return {};
    case Op::kPushScope:
      return push_scope(scope_);
    case Op::kPopScope:
      pop_scope();
      return {};
    case Op::kLoopBegin:
    case Op::kLoopNext:
    case Op::kLoopElse:
    case Op::kLoopEnd:
    case Op::kSelect:
    case Op::kBreak:
    case Op::kContinue:
    case Op::kUnpack:
      return step_loop(instruction);
    case Op::kCall:
    case Op::kCallMethod:
    case Op::kFilter:
    case Op::kTest:
    case Op::kMacro:
    case Op::kMacroReturn:
    case Op::kCaptureBegin:
    case Op::kCaptureEnd:
      return step_call(instruction);
    default:
      return step_value(instruction);
  }
}

Result<void> Interpreter::step_value(const Instruction& instruction) {
  switch (instruction.op) {
    case Op::kAttribute:
      top() = TRY(attribute(heap_, top(), program_.constants[static_cast<size_t>(instruction.arg)]));
      return {};
    case Op::kItem: {
      const Value key = pop();
      top() = TRY(item(heap_, top(), key));
      return {};
    }
    case Op::kSlice: {
      const Value step_by = pop(), stop = pop(), start = pop();
      top() = TRY(slice(heap_, top(), start, stop, step_by));
      return {};
    }
    case Op::kList:
    case Op::kTuple: {
      const ListKind kind = instruction.op == Op::kList ? ListKind::kList : ListKind::kTuple;
      push(TRY(heap_.list(pop_many(static_cast<size_t>(instruction.arg)), kind)));
      return {};
    }
    case Op::kDict: {
      std::vector<Value> flat = pop_many(static_cast<size_t>(instruction.arg) * 2);
      std::vector<Entry> entries;
      for (size_t i = 0; i < flat.size(); i += 2) entries.emplace_back(std::move(flat[i]), std::move(flat[i + 1]));
      push(TRY(make_dict(heap_, std::move(entries))));
      return {};
    }
    case Op::kUnary:
      top() = TRY(unary(heap_, static_cast<char>(instruction.sub), top()));
      return {};
    case Op::kBinary: {
      const Value right = pop();
      top() = TRY(binary(heap_, static_cast<BinaryOp>(instruction.sub), top(), right));
      return {};
    }
    case Op::kConcat: {
      std::string text;
      const auto count = static_cast<size_t>(instruction.arg);
      for (size_t i = count; i > 0; --i) TRY(append_text(heap_, text, top(i - 1)));
      stack_.resize(stack_.size() - count);
      push(TRY(heap_.string(std::move(text))));
      return {};
    }
    case Op::kCompare:
    case Op::kCompareChain: {
      Value right = pop();
      const bool holds = TRY(compare(heap_, static_cast<CompareOp>(instruction.sub), top(), right));
      const bool goes_on = instruction.op == Op::kCompareChain && holds;
      top() = goes_on ? std::move(right) : Value(holds);
      if (instruction.op == Op::kCompareChain && !holds) pc_ += instruction.arg;
      return {};
    }
    default:
      return fail(Code::kInternal, "no instruction {}", static_cast<int>(instruction.op));
  }
}

Value Interpreter::pop() {
  Value value = std::move(stack_.back());
  stack_.pop_back();
  return value;
}

std::vector<Value> Interpreter::pop_many(size_t count) {
  const auto begin = stack_.end() - static_cast<ptrdiff_t>(count);
  std::vector<Value> values(std::make_move_iterator(begin), std::make_move_iterator(stack_.end()));
  stack_.erase(begin, stack_.end());
  return values;
}

Result<void> Interpreter::output(std::string_view text) {
  if (text.size() > limits::kTemplateOutputBytes - std::min(output_bytes_, limits::kTemplateOutputBytes))
    return fail(Code::kLimit, "its output passes {} bytes", limits::kTemplateOutputBytes);
  output_bytes_ += text.size();
  captures_.back() += text;
  return heap_.work_bytes(text.size());
}

Result<void> Interpreter::emit(const Value& value) {
  if (value.is_string()) return output(value.text());
  return output(TRY(text_of(heap_, value)));
}

Result<void> Interpreter::push_scope(Scope* outer) {
  if (free_scopes_.empty()) {
    TRY(heap_.charge(sizeof(Scope)));
    free_scopes_.push_back(&scopes_.emplace_back());
  }
  scope_ = free_scopes_.back();
  free_scopes_.pop_back();
  scope_->outer = outer;
  return {};
}

void Interpreter::pop_scope() {
  Scope* left = scope_;
  scope_ = left->outer;
  if (left->captured) return;
  heap_.refund(left->variables.size() * kVariableBytes);
  left->variables.clear();
  free_scopes_.push_back(left);
}

Result<Value> Interpreter::load(int32_t name) {
  for (Scope* scope = scope_; scope != root_; scope = scope->outer) {
    if (const Value* found = find_in_scope(*scope, name)) return *found;
    TRY(heap_.work(scope->variables.size() / 8));
  }
  const int32_t position = root_position_[static_cast<size_t>(name)];
  if (position >= 0) return root_->variables[static_cast<size_t>(position)].second;
  if (const Builtin* global = globals_[static_cast<size_t>(name)]) return Value(global);
  return Value::undefined(program_.names[static_cast<size_t>(name)]);
}

Result<void> Interpreter::store(int32_t name, Value value) {
  if (scope_ == root_) {
    define(program_.names[static_cast<size_t>(name)].text(), value);
    return {};
  }
  TRY(heap_.work(scope_->variables.size() / 8));
  if (Value* found = find_in_scope(*scope_, name)) {
    *found = std::move(value);
    return {};
  }
  TRY(heap_.charge(kVariableBytes));
  scope_->variables.emplace_back(name, std::move(value));
  return {};
}

Result<void> Interpreter::store_attribute(int32_t variable, const Value& name, Value value) {
  const Value target = TRY(load(variable));
  if (!target.is(Kind::kNamespace))
    return fail(Code::kMalformed, "cannot set an attribute of '{}': it is a {}, not a namespace",
                program_.names[static_cast<size_t>(variable)].text(), type_name(target));
  auto& entries = target.as<NamespaceObject>().entries;
  TRY(heap_.work(entries.size() / 8));
  for (auto& [key, member] : entries)
    if (key.is_string() && key.text() == name.text()) {
      member = std::move(value);
      return {};
    }
  TRY(heap_.charge(sizeof(Entry)));
  entries.emplace_back(name, std::move(value));
  return {};
}

}  // namespace hearth::jinja
