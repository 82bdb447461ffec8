// Runs a compiled template. One object per render; not reusable.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja_builtins.h"
#include "text/jinja_program.h"

namespace hearth::jinja {

// Variables of one lexical level. Lookup goes outwards; assignment stays.
struct Scope {
  Scope* outer = nullptr;
  std::vector<std::pair<int32_t, Value>> variables;
  bool captured = false;  // a macro or recursive loop refers to it, so it outlives its block
};

class Interpreter {
 public:
  Interpreter(const Program& program, std::string_view date_string);

  Heap& heap() { return heap_; }
  // Variables of the render; names the template never mentions are dropped.
  void define(std::string_view name, const Value& value);
  // The output. Errors carry the line, except those of raise_exception, which are the template's own words.
  Result<std::string> run();

 private:
  struct Iterator {
    Value loop;                   // kLoop
    std::vector<Value> selected;  // by a selecting loop
    Scope* outer = nullptr;       // scope around the loop
    size_t stack_size = 0, captures = 0;
    bool selecting = false;
  };
  // A call in progress: of a macro, or of a recursive loop.
  struct Frame {
    size_t return_to = 0;
    Scope* scope = nullptr;
    size_t iterators = 0;
    bool is_loop = false;
    int64_t depth0 = 0;  // of the loop to come
  };

  Result<void> step(const Instruction& instruction);
  Result<void> step_value(const Instruction& instruction);
  Result<void> step_loop(const Instruction& instruction);
  Result<void> step_call(const Instruction& instruction);

  // Values
  void push(Value value) { stack_.push_back(std::move(value)); }
  Value pop();
  [[nodiscard]] Value& top(size_t below = 0) { return stack_[stack_.size() - 1 - below]; }
  std::vector<Value> pop_many(size_t count);
  Result<void> output(std::string_view text);
  Result<void> emit(const Value& value);

  // Scopes
  Result<void> push_scope(Scope* outer);
  void pop_scope();
  Result<Value> load(int32_t name);
  Result<void> store(int32_t name, Value value);
  Result<void> store_attribute(int32_t variable, const Value& name, Value value);

  // Loops
  Result<void> begin_loop(const Instruction& instruction);
  Result<void> next_item(const Instruction& instruction);
  Result<void> end_loop(const Instruction& instruction);
  Result<void> unpack(size_t count);

  // Calls
  Result<void> flatten_arguments(const CallShape& shape, std::vector<Value>& names, size_t& positional);
  Result<void> call(const Instruction& instruction);
  Result<void> invoke(const Value& callee, const Arguments& arguments, size_t stack_size);
  Result<void> enter_macro(const MacroObject& macro, const Arguments& arguments, size_t stack_size);
  Result<void> enter_loop(const LoopObject& loop, const Arguments& arguments, size_t stack_size);
  Result<void> leave_frame();
  Result<void> filter_or_test(const Instruction& instruction);
  Result<void> end_capture();

  const Program& program_;
  Heap heap_;
  Environment environment_;
  std::deque<Scope> scopes_;  // all ever made
  std::vector<Scope*> free_scopes_;
  Scope* root_ = nullptr;
  Scope* scope_ = nullptr;
  std::vector<int32_t> root_position_;                     // of each name in root_, -1 if it is not there
  std::vector<const Builtin*> filters_, tests_, globals_;  // by constant or name, found when first used
  std::vector<Value> stack_;
  std::vector<Iterator> iterators_;
  std::vector<Frame> frames_;
  std::vector<std::string> captures_;  // outputs; the first is the result
  uint64_t output_bytes_ = 0;          // of all captures
  size_t pc_ = 0;
};

}  // namespace hearth::jinja
