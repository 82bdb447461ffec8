// Runs a program as a user would, for tests that look at the whole of it.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace hearth::test {

struct ProgramResult {
  int exit_code = -1;  // 128 + n if signal n ended it
  std::string out;     // what it wrote to stdout
  std::string err;     // and to stderr
};

using Environment = std::map<std::string, std::string>;

// A running program. Its output goes to files below /tmp until wait() reads them; the destructor kills what still runs.
class Program {
 public:
  // `environment` is added to this process's; `input` is its stdin.
  Program(const std::vector<std::string>& arguments, const Environment& environment, const std::string& input = "");
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  void signal(int number) const;
  [[nodiscard]] bool running() const;
  [[nodiscard]] std::string err() const;  // so far
  ProgramResult wait();

 private:
  int pid_ = -1;
  std::string folder_;
};

ProgramResult run_program(const std::vector<std::string>& arguments, const Environment& environment,
                          const std::string& input = "");

std::string read_whole(const std::string& path);
void write_whole(const std::string& path, const std::string& text);

// What stands in `text` between two marks; empty if they are not there yet.
inline std::string between(const std::string& text, const std::string& before, const std::string& after) {
  const size_t begin = text.find(before);
  const size_t end = begin == std::string::npos ? begin : text.find(after, begin + before.size());
  return end == std::string::npos ? "" : text.substr(begin + before.size(), end - begin - before.size());
}

}  // namespace hearth::test
