// Random answers through a real model's vocabulary, held to a schema.
//   schema_samples MODEL SAMPLES < schemas.jsonl
// Reads lines {"schema": ...}; writes for each either {"line", "error"} or so many {"line", "text", "complete"}, and at the end
// {"masks", "mean_us", "worst_us"}: what masks of states that were new cost.
#include <algorithm>
#include <boost/json.hpp>
#include <ctime>
#include <iostream>
#include <random>

#include "base/json.h"
#include "model/checkpoint.h"
#include "model/gguf_tokenizer.h"
#include "text/token_masks.h"
#include "text/utf8.h"

namespace hearth {
namespace {

constexpr int kTokensMax = 400, kTokensBeforeHurry = 40;

struct Cost {
  int n = 0;
  double total_us = 0, worst_us = 0;
};

// CPU time: what else the machine does is not counted.
double thread_us() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return 1e6 * static_cast<double>(now.tv_sec) + 1e-3 * static_cast<double>(now.tv_nsec);
}

class Sampling {
 public:
  explicit Sampling(const Tokenizer& tokenizer) : tokenizer_(tokenizer), masks_(tokenizer) {
    for (const std::string_view text : {"\"", "}", "]", "\"}", ":", "0", "1", "null", "true", "@", "z", ".", "com"}) {
      if (const Token token = tokenizer.find(text); token != kNoToken) closing_.push_back(token);
    }
  }

  boost::json::object answer(const Grammar::Shared& grammar) {
    Constraint constraint(grammar, masks_);
    std::string text;
    bool ended = false;
    for (int step = 0; step < kTokensMax && !ended; ++step) {
      const double begun_us = thread_us();
      const std::span<const uint64_t> allowed = constraint.allowed();
      const double us = thread_us() - begun_us;
      ++cost.n;
      cost.total_us += us;
      cost.worst_us = std::max(cost.worst_us, us);
      const Token token = choose(allowed, step);
      if (token == kNoToken || !constraint.accept(token)) break;
      ended = tokenizer_.ends_generation(token);
      text += tokenizer_.bytes(token, false, false);
    }
    return {{"text", with_replacement(text)}, {"complete", ended}};
  }

  Cost cost;

 private:
  Token choose(std::span<const uint64_t> allowed, int step) {
    const auto may = [&](Token token) { return (allowed[static_cast<size_t>(token) / 64] >> (token % 64) & 1) != 0; };
    const bool hurries = random_() % 100 < (step < kTokensBeforeHurry ? 20u : 95u);
    for (const Token token : tokenizer_.data().end_of_generation) {
      if (may(token) && (hurries || random_() % 2 == 0)) return token;
    }
    if (hurries) {
      const size_t begin = step < kTokensBeforeHurry ? random_() % closing_.size() : 0;
      for (size_t i = 0; i < closing_.size(); ++i) {
        if (const Token token = closing_[(begin + i) % closing_.size()]; may(token)) return token;
      }
    }
    std::vector<Token> all;
    for (Token token = 0; token < tokenizer_.n_vocab(); ++token) {
      if (may(token)) all.push_back(token);
    }
    return all.empty() ? kNoToken : all[random_() % all.size()];
  }

  const Tokenizer& tokenizer_;
  TokenMasks masks_;
  std::vector<Token> closing_;
  std::mt19937 random_{7};
};

Result<void> run(const char* model, int n_samples) {
  const Checkpoint checkpoint = TRY(open_checkpoint(model));
  auto data = TRY(tokenizer_from_gguf(checkpoint.metadata()));
  const auto tokenizer = TRY(Tokenizer::create(std::move(data)));
  Sampling sampling(*tokenizer);
  std::string line;
  for (int number = 1; std::getline(std::cin, line); ++number) {
    const boost::json::value parsed = TRY(parse_json(line));
    const auto grammar = Grammar::from_json_schema(parsed.as_object().at("schema"));
    if (!grammar) std::cout << boost::json::object{{"line", number}, {"error", grammar.error().message}} << "\n";
    for (int i = 0; grammar && i < n_samples; ++i) {
      boost::json::object answer = sampling.answer(*grammar);
      answer["line"] = number;
      std::cout << answer << "\n";
    }
  }
  const Cost& cost = sampling.cost;
  std::cout << boost::json::object{{"masks", cost.n}, {"mean_us", cost.total_us / cost.n}, {"worst_us", cost.worst_us}}
            << "\n";
  return {};
}

}  // namespace
}  // namespace hearth

int main(int argc, char** argv) {
  if (argc != 3) return std::cerr << "schema_samples MODEL SAMPLES < schemas.jsonl\n", 2;
  const auto result = hearth::run(argv[1], std::atoi(argv[2]));
  if (!result) std::cerr << result.error().message << "\n";
  return result ? 0 : 1;
}
