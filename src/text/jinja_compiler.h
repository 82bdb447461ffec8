// Recursive-descent parser that writes instructions as it goes. Private to jinja_expressions.cc and
// jinja_statements.cc. Functions return false once something is wrong; error_ then says what. They keep little on the
// stack: nesting is counted against limits::kTemplateDepth, and that depth must fit a 256 KiB stack in every build.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja_lexer.h"
#include "text/jinja_program.h"

namespace hearth::jinja {

class Compiler {
 public:
  explicit Compiler(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}
  Result<Program> run();

 private:
  // What is assigned to: a name or a tuple of targets.
  struct Target {
    int32_t name = -1;
    std::vector<Target> parts;
  };
  struct LoopFrame {
    int32_t next = 0;             // address of kLoopNext
    std::vector<int32_t> breaks;  // kBreak instructions to patch
  };
  // What the macro around the current position refers to.
  struct MacroUse {
    bool varargs = false, kwargs = false, caller = false;
  };
  class Nesting;

  // Tokens
  [[nodiscard]] const Token& peek(size_t ahead = 0) const { return tokens_[std::min(at_ + ahead, tokens_.size() - 1)]; }
  const Token& next() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  bool accept_operator(std::string_view op);
  bool accept_name(std::string_view name);
  bool expect_operator(std::string_view op);
  bool expect_block_end();
  bool expect_identifier(std::string_view& name);

  // Code
  int32_t emit(Op op, int32_t arg = 0, int32_t extra = 0, uint8_t sub = 0);
  [[nodiscard]] int32_t here() const { return static_cast<int32_t>(program_.code.size()); }
  void patch_jump(int32_t instruction) { program_.code[instruction].arg = here() - instruction - 1; }
  void emit_jump_to(Op op, int32_t target) { emit(op, target - here() - 1); }
  Value string_constant(std::string_view text);
  int32_t constant(Value value);
  int32_t text_constant(std::string_view text);
  int32_t name_id(std::string_view name);

  // Expressions
  bool parse_expression(bool with_condition = true);
  bool parse_tuple(bool with_condition = true);
  bool parse_binary(int lowest_precedence);
  bool parse_operation(int lowest_precedence);
  bool parse_comparison_rest();
  bool parse_unary(bool with_filters);
  bool parse_primary();
  bool parse_name();
  bool parse_number();
  bool parse_parenthesis();
  bool parse_list();
  bool parse_dict();
  bool parse_postfix();
  bool parse_attribute();
  bool parse_subscript();
  bool parse_slice_part();
  bool parse_filters_and_tests();
  bool parse_filter();
  bool parse_filter_chain();
  bool parse_test();
  bool parse_call_arguments(CallShape& shape);
  bool parse_call(int32_t method_name);
  void add_argument_instruction(Op op, CallShape shape, int32_t extra);

  // Statements
  bool parse_body(std::initializer_list<std::string_view> ends);
  bool parse_statement();
  bool parse_if();
  bool parse_for();
  bool parse_loop_filter(const Target& target, int32_t entry);
  bool parse_loop_control(bool is_break);
  bool parse_set();
  bool parse_set_block();
  bool parse_macro();
  bool parse_macro_parameters(MacroShape& shape);
  bool parse_macro_body(MacroShape shape, std::string_view end, size_t body);
  bool parse_call_block();
  bool parse_filter_block();
  bool parse_with();
  bool parse_generation();
  bool parse_target(Target& target, bool with_tuple);
  void emit_store(const Target& target);
  bool end_statement(std::string_view name);

  bool error(Code code, std::string message);
  bool syntax_error(std::string_view what);
  [[nodiscard]] std::string describe(const Token& token) const;

  std::vector<Token> tokens_;
  size_t at_ = 0;
  uint32_t depth_ = 0;
  Program program_;
  std::unordered_map<std::string_view, int32_t> text_constants_;
  std::vector<LoopFrame> loops_;
  std::vector<MacroUse> macro_uses_;
  std::optional<Error> error_;
};

// Counts one level of nesting while it lives.
class Compiler::Nesting {
 public:
  explicit Nesting(Compiler& compiler) : compiler_(compiler) { ++compiler_.depth_; }
  ~Nesting() { --compiler_.depth_; }
  Nesting(const Nesting&) = delete;
  Nesting& operator=(const Nesting&) = delete;
  [[nodiscard]] bool fits();

 private:
  Compiler& compiler_;
};

}  // namespace hearth::jinja
