// A template compiled for a stack machine: no recursion at run time, so the depth of a render never depends on the
// native stack.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/jinja_value.h"

namespace hearth::jinja {

// Operands: `arg` (a constant, name, shape, count or relative jump), `extra` and `sub`. "pop" and "push" speak of the
// value stack.
enum class Op : uint8_t {
  kText,             // output constant `arg`
  kEmit,             // pop, output as text
  kConst,            // push constant `arg`
  kAbsentElse,       // push undefined: an inline if without else
  kLoad,             // push variable `arg`
  kStore,            // pop into variable `arg` of the innermost scope
  kStoreAttribute,   // pop into attribute `arg` of the namespace variable `extra`
  kUnpack,           // pop a sequence of exactly `arg` items, push them, the first on top
  kAttribute,        // pop object, push its attribute named by constant `arg`
  kItem,             // pop key, object; push the item
  kSlice,            // pop step, stop, start, object; push the slice
  kList,             // pop `arg` items, push a list
  kTuple,            // the same, a tuple
  kDict,             // pop `arg` pairs of key and value
  kUnary,            // `sub` is '-', '+' or '!'
  kBinary,           // pop two; `sub` is a BinaryOp
  kConcat,           // pop `arg` values, push their texts joined
  kCompare,          // pop two; `sub` is a CompareOp
  kCompareChain,     // the same; if false push false and jump `arg`, else push the right operand again
  kJump,             // `arg` relative to the next instruction
  kJumpIfFalse,      // pop
  kJumpIfFalseKeep,  // jump without popping if false, else pop
  kJumpIfTrueKeep,
  kCall,        // pop arguments of shape `arg` and the callee
  kCallMethod,  // the same, callee is the attribute named by constant `extra` of the object below the arguments
  kFilter,      // pop arguments of shape `arg` and the input; filter named by constant `extra`
  kTest,        // the same for a test
  kPushScope,
  kPopScope,
  kLoopBegin,     // pop an iterable; `sub` is a set of LoopFlag; `extra` is where a recursive call enters (absolute)
  kLoopNext,      // next item in a fresh scope, pushed; jump `arg` if there is none
  kSelect,        // pop a condition; if true keep the current item
  kLoopElse,      // jump `arg` if the loop has run at least once
  kLoopEnd,       // `sub` as for kLoopBegin; a selecting loop pushes what it kept
  kBreak,         // leave the innermost loop: jump `arg`
  kContinue,      // go on with it: jump `arg`
  kCaptureBegin,  // output goes aside ...
  kCaptureEnd,    // ... and is pushed
  kMacro,         // push the macro `arg` bound to the current scope
  kMacroReturn,
  kJumpIfGiven,  // jump `arg` if parameter `extra` was given
  kHalt,
};

enum class BinaryOp : uint8_t { kAdd, kSubtract, kMultiply, kDivide, kFloorDivide, kModulo, kPower };
enum class CompareOp : uint8_t { kEqual, kNotEqual, kLess, kLessEqual, kGreater, kGreaterEqual, kIn, kNotIn };
enum LoopFlag : uint8_t { kSelecting = 1, kRecursive = 2 };

struct Instruction {
  Op op;
  uint8_t sub = 0;
  int32_t arg = 0;
  int32_t extra = 0;
  uint32_t line = 0;
};

// How arguments lie on the stack: positional ones, named ones, then *list and **dict.
struct CallShape {
  uint32_t positional = 0;
  std::vector<Value> names;
  bool list_unpack = false, dict_unpack = false;
  [[nodiscard]] size_t size() const {
    return positional + names.size() + (list_unpack ? 1 : 0) + (dict_unpack ? 1 : 0);
  }
};

struct MacroShape {
  Value name;
  std::vector<int32_t> parameters;  // names
  std::vector<bool> has_default;
  int32_t entry = 0;
  bool takes_varargs = false, takes_kwargs = false, takes_caller = false;
};

// Immutable once compiled; shared by all renders.
struct Program {
  std::deque<StringObject> strings;  // behind the constants and names, so they go last
  std::vector<Instruction> code;
  std::vector<Value> constants;
  std::vector<Value> names;  // variables
  std::vector<CallShape> shapes;
  std::deque<MacroShape> macros;
  std::unordered_map<std::string_view, int32_t> name_ids;
  int32_t varargs_name = -1, kwargs_name = -1, caller_name = -1, loop_name = -1;
};

// kMalformed with the line for a syntax error, kUnsupported for Jinja we do not run (inheritance, imports), kLimit over
// limits::kTemplateDepth levels of nesting.
Result<Program> compile(std::string_view source);

}  // namespace hearth::jinja
