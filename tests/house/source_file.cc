#include "house/source_file.h"

#include <algorithm>
#include <cctype>
#include <fstream>
#include <iterator>
#include <sstream>

namespace hearth::house {
namespace {

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

std::string read_text(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void blank(std::string& code, size_t from, size_t to) {
  for (size_t i = from; i < std::min(to, code.size()); ++i) {
    if (code[i] != '\n') code[i] = ' ';
  }
}

// The offset behind a literal whose opening quote is at `at`; the closing quote is included.
size_t literal_end(std::string_view text, size_t at) {
  const char quote = text[at];
  size_t i = at + 1;
  while (i < text.size() && text[i] != quote && text[i] != '\n') i += text[i] == '\\' ? 2 : 1;
  return std::min(i + 1, text.size());
}

// The offset behind R"tag(...)tag" whose quote is at `at`.
size_t raw_literal_end(std::string_view text, size_t at) {
  const size_t open = text.find('(', at);
  if (open == std::string_view::npos) return text.size();
  const std::string close = ")" + std::string(text.substr(at + 1, open - at - 1)) + "\"";
  const size_t end = text.find(close, open);
  return end == std::string_view::npos ? text.size() : end + close.size();
}

std::string without_comments_and_literals(const std::string& text) {
  std::string code = text;
  size_t i = 0;
  while (i < text.size()) {
    const std::string_view rest = std::string_view(text).substr(i);
    size_t end = i + 1;
    if (rest.starts_with("//")) {
      end = std::min(text.find('\n', i), text.size());
      blank(code, i, end);
    } else if (rest.starts_with("/*")) {
      end = std::min(text.find("*/", i + 2), text.size() - 2) + 2;
      blank(code, i, end);
    } else if (rest[0] == '"') {
      const bool raw = i > 0 && text[i - 1] == 'R' && (i < 2 || !is_word(text[i - 2]) || text[i - 2] == '8');
      end = raw ? raw_literal_end(text, i) : literal_end(text, i);
      blank(code, i + 1, end - 1);
    } else if (rest[0] == '\'' && (i == 0 || !is_word(text[i - 1]))) {  // a digit separator follows a digit
      end = literal_end(text, i);
      blank(code, i + 1, end - 1);
    }
    i = end;
  }
  return code;
}

std::string without_directives(std::string code) {
  size_t i = 0;
  while (i < code.size()) {
    size_t end = code.find('\n', i);
    if (end == std::string::npos) end = code.size();
    const size_t first = code.find_first_not_of(" \t", i);
    if (first < end && code[first] == '#') {
      while (end < code.size() && code[end - 1] == '\\') end = std::min(code.find('\n', end + 1), code.size());
      blank(code, i, end);
    }
    i = end + 1;
  }
  return code;
}

std::string trimmed(std::string_view s) {
  const size_t first = s.find_first_not_of(" \t\n");
  if (first == std::string_view::npos) return {};
  return std::string(s.substr(first, s.find_last_not_of(" \t\n") - first + 1));
}

// The head of a declaration without its leading template <...> and attributes.
std::string_view without_template(std::string_view head) {
  while (head.starts_with("template")) {
    size_t i = head.find('<');
    int depth = 0;
    for (; i < head.size(); ++i) {
      if (head[i] == '<') ++depth;
      if (head[i] == '>' && --depth == 0) break;
    }
    head = head.substr(std::min(i + 1, head.size()));
    head = head.substr(std::min(head.find_first_not_of(" \t\n"), head.size()));
  }
  return head;
}

enum class Scope { kNames, kFunction, kInitialiser, kMemberInitialiser };

// What the brace behind `head` opens, judged from outside any function.
Scope scope_of(const std::string& whole_head) {
  const std::string_view head = without_template(whole_head);
  for (const char* word : {"namespace", "extern", "class ", "struct ", "union ", "enum ", "export "}) {
    if (head.starts_with(word) && (head.find('(') == std::string_view::npos || head.starts_with("namespace"))) {
      return Scope::kNames;
    }
  }
  const size_t close = head.rfind(')');
  if (close == std::string_view::npos) return Scope::kInitialiser;
  // "X::X() : a_(1), b_{2} {": a brace behind a name in the initialiser list belongs to a member.
  const size_t open = head.find('(');
  const size_t colon = head.find(") : ", open);
  const bool in_list = colon != std::string_view::npos;
  if (in_list && (is_word(head.back()) || head.back() == '>')) return Scope::kMemberInitialiser;
  return Scope::kFunction;
}

size_t matching_brace(std::string_view code, size_t open) {
  int depth = 0;
  for (size_t i = open; i < code.size(); ++i) {
    if (code[i] == '{') ++depth;
    if (code[i] == '}' && --depth == 0) return i;
  }
  return code.size();
}

std::string short_name(const std::string& head) {
  const std::string line = head.substr(head.rfind('\n') == std::string::npos ? 0 : head.rfind('\n') + 1);
  return trimmed(head.size() <= 100 ? head : line).substr(0, 100);
}

}  // namespace

SourceFile SourceFile::read(const std::filesystem::path& repository, const std::filesystem::path& relative) {
  SourceFile file;
  file.path = relative.generic_string();
  file.text = read_text(repository / relative);
  file.code = without_comments_and_literals(file.text);
  return file;
}

bool SourceFile::is_test() const {
  const std::string_view name = std::string_view(path).substr(path.rfind('/') + 1);
  return name.ends_with("_test.cc") || name.starts_with("test_") || name.starts_with("golden_") ||
         path.starts_with("tests/");
}

int SourceFile::lines() const { return static_cast<int>(std::count(text.begin(), text.end(), '\n')); }

int SourceFile::line_of(size_t offset) const {
  return 1 + static_cast<int>(std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(offset), '\n'));
}

std::vector<Include> SourceFile::includes() const {
  std::vector<Include> found;
  std::istringstream in(text);
  int number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (!line.starts_with("#include ")) continue;
    const size_t open = line.find_first_of("\"<");
    if (open == std::string::npos) continue;
    const bool quoted = line[open] == '"';
    const size_t close = line.find(quoted ? '"' : '>', open + 1);
    if (close != std::string::npos) found.push_back({line.substr(open + 1, close - open - 1), quoted, number});
  }
  return found;
}

std::vector<std::string> SourceFile::macros() const {
  std::vector<std::string> found;
  std::istringstream in(code);
  for (std::string line; std::getline(in, line);) {
    constexpr std::string_view kDefine = "#define ";
    if (!line.starts_with(kDefine)) continue;
    size_t end = kDefine.size();
    while (end < line.size() && is_word(line[end])) ++end;
    found.push_back(line.substr(kDefine.size(), end - kDefine.size()));
  }
  return found;
}

std::vector<Function> SourceFile::functions() const {
  const std::string body = without_directives(code);
  std::vector<Function> found;
  size_t head_start = 0;
  int parens = 0;
  for (size_t i = 0; i < body.size(); ++i) {
    const char c = body[i];
    if (c == '(') ++parens;
    if (c == ')') --parens;
    if (parens == 0 && (c == ';' || c == '}')) head_start = i + 1;
    if (c != '{') continue;
    const std::string head = trimmed(std::string_view(body).substr(head_start, i - head_start));
    const Scope scope = parens > 0 ? Scope::kMemberInitialiser : scope_of(head);
    if (scope == Scope::kNames) {
      head_start = i + 1;
      continue;
    }
    const size_t end = matching_brace(body, i);
    if (scope == Scope::kFunction) {
      const int first = line_of(i);
      found.push_back({short_name(head), first, line_of(std::min(end, text.size())) - first + 1});
    }
    if (scope != Scope::kMemberInitialiser) head_start = end + 1;
    i = end;
  }
  return found;
}

std::vector<int> SourceFile::lines_with_word(std::string_view where, std::string_view word) const {
  std::vector<int> found;
  for (size_t at = where.find(word); at != std::string_view::npos; at = where.find(word, at + 1)) {
    const bool begins = at == 0 || !is_word(where[at - 1]);
    const bool ends = at + word.size() == where.size() || !is_word(where[at + word.size()]);
    if (begins && ends) found.push_back(line_of(at));
  }
  return found;
}

std::string room_of(std::string_view path) {
  constexpr std::string_view kSrc = "src/";
  if (!path.starts_with(kSrc)) return {};
  path.remove_prefix(kSrc.size());
  const size_t slash = path.find('/');
  return slash == std::string_view::npos ? std::string() : std::string(path.substr(0, slash));
}

std::vector<SourceFile> read_sources(const std::filesystem::path& repository, const std::vector<std::string>& folders) {
  std::vector<std::filesystem::path> paths;
  for (const std::string& folder : folders) {
    if (!std::filesystem::exists(repository / folder)) continue;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(repository / folder)) {
      const std::string extension = entry.path().extension().string();
      const bool source = extension == ".h" || extension == ".hpp" || extension == ".cc" || extension == ".c";
      if (entry.is_regular_file() && source) paths.push_back(entry.path().lexically_relative(repository));
    }
  }
  std::sort(paths.begin(), paths.end());
  std::vector<SourceFile> files;
  files.reserve(paths.size());
  for (const auto& path : paths) files.push_back(SourceFile::read(repository, path));
  return files;
}

std::vector<std::vector<std::string>> read_table(const std::filesystem::path& file) {
  std::vector<std::vector<std::string>> rows;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line.substr(0, line.find('#')));
    std::vector<std::string> row{std::istream_iterator<std::string>(words), std::istream_iterator<std::string>()};
    if (!row.empty()) rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace hearth::house
