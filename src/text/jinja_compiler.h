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
    int32_t next = 0;     // address of kLoopNext
    int32_t breaks = -1;  // the last kBreak; its `arg` is the one before
  };
  // What the macro around the current position refers to.
  struct MacroUse {
    bool varargs = false, kwargs = false, caller = false;
  };
  // An operator that waits for its right operand.
  struct Pending {
    int precedence = 0;
    uint8_t operation = 0;  // BinaryOp or CompareOp
    int32_t count = 0;      // operands of '~'
    int32_t link = -1;      // the jump of 'and' and 'or'; the last of a chain of comparisons
  };

  // Tokens
  [[nodiscard]] const Token& peek(size_t ahead = 0) const { return tokens_[std::min(at_ + ahead, tokens_.size() - 1)]; }
  const Token& next() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  bool accept_operator(std::string_view op);
  bool accept_name(std::string_view name);
  bool expect_operator(std::string_view op);
  bool expect_block_end();

  // One level deeper; false if that is too deep. Errors end everything, so they need not come back up.
  bool enter();
  bool too_deep();
  void leave() { --depth_; }

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
  bool parse_condition(int32_t& begin, int32_t& ends);
  void move_behind_condition(int32_t begin, int32_t condition);
  void patch_linked_jumps(int32_t last);
  bool parse_operators();
  int next_precedence();
  bool accept_negations(size_t base);
  void reduce(size_t base, int precedence);
  void push_operator(size_t base, int precedence);
  bool parse_unary(bool with_filters);
  bool parse_primary();
  bool parse_string();
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
  bool parse_call_arguments(size_t shape);
  bool parse_argument_kind(size_t shape);
  size_t add_shape();
  bool parse_call(int32_t method_name);
  [[nodiscard]] bool begins_test_operand() const;

  // Statements
  // `ends`: names separated by blanks.
  bool parse_body(std::string_view ends);
  [[nodiscard]] bool ends_body(std::string_view ends) const;
  bool parse_output();
  bool missing_end(std::string_view ends);
  using Statement = bool (Compiler::*)();
  bool parse_statement();
  static Statement statement_named(std::string_view name);
  bool unknown_statement();
  bool parse_if();
  bool parse_for();
  bool parse_loop_filter(int32_t entry);
  bool parse_loop_else();
  void begin_loop_body();
  void end_loop_body();
  bool parse_break();
  bool parse_continue();
  bool parse_set();
  bool parse_set_block();
  bool parse_macro();
  bool parse_macro_parameters(MacroShape& shape);
  bool parse_macro_body(const Value& name, std::string_view end, size_t body);
  MacroShape& begin_macro(const Value& name);
  void end_macro(MacroShape& shape);
  void skip_parameters();
  bool add_caller_argument();
  bool parse_call_block();
  bool parse_filter_block();
  bool parse_with();
  bool parse_generation();
  bool parse_target(bool with_tuple);
  bool parse_target_part();
  void join_targets(size_t first);
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
  std::vector<Pending> operators_;
  uint8_t next_operation_ = 0;   // of the operator next_precedence() found
  std::vector<Target> targets_;  // parsed and not yet stored to
  std::vector<LoopFrame> loops_;
  size_t outer_loops_ = 0;  // how many of loops_ are outside the macro around the current position
  std::vector<MacroUse> macro_uses_;
  std::optional<Error> error_;
};

}  // namespace hearth::jinja
