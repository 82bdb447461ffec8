// The house tests' view of a source file: its lines, its code without comments and literals, its includes and its
// functions. A reader of tokens, not a compiler: good enough for code that clang-format has laid out.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace hearth::house {

struct Include {
  std::string path;  // as written, without the quotes or brackets
  bool quoted;       // "x.h" rather than <x.h>
  int line;
};

struct Function {
  std::string name;  // the head's last line, cut to what fits a message
  int line;          // of the opening brace
  int length_lines;  // from the opening to the closing brace, both counted
};

struct SourceFile {
  std::string path;  // relative to the repository, with forward slashes
  std::string text;
  std::string code;  // as long as text; comments and the insides of string and character literals are blanks

  static SourceFile read(const std::filesystem::path& repository, const std::filesystem::path& relative);

  [[nodiscard]] bool is_header() const { return path.ends_with(".h") || path.ends_with(".hpp"); }
  // In a room: x_test.cc, and test_x.h or golden_x.h, which only tests include.
  [[nodiscard]] bool is_test() const;
  [[nodiscard]] int lines() const;
  [[nodiscard]] int line_of(size_t offset) const;
  [[nodiscard]] std::vector<Include> includes() const;
  [[nodiscard]] std::vector<std::string> macros() const;  // names that #define gives, in order
  [[nodiscard]] std::vector<Function> functions() const;
  // Lines on which `word` stands alone (no identifier character on either side) in `where`, which is text or code.
  [[nodiscard]] std::vector<int> lines_with_word(std::string_view where, std::string_view word) const;
};

// The first folder of a path below src: "text" for src/text/bpe.cc; empty for anything else.
std::string room_of(std::string_view path);

// Every tracked kind of source (.h .hpp .cc .c) below the given folders of the repository, sorted.
std::vector<SourceFile> read_sources(const std::filesystem::path& repository, const std::vector<std::string>& folders);

// The lines of a table file: no comments, no blank lines, each split at blanks.
std::vector<std::vector<std::string>> read_table(const std::filesystem::path& file);

}  // namespace hearth::house
