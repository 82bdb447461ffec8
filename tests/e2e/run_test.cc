// `hearth run` and its neighbours as a user and a script meet them.
#include <gtest/gtest.h>

#include "base/json.h"
#include "support/loaded_model.h"
#include "support/program.h"
#include "support/test_folder.h"

namespace hearth {
namespace {

test::ProgramResult hearth_program(std::vector<std::string> arguments, const std::string& input = "") {
  arguments.insert(arguments.begin(), HEARTH_PROGRAM);
  return test::run_program(arguments, {}, input);
}

std::string model() { return test::real_model().value_or("no tiny model").string(); }

TEST(Run, AnswersAPromptOnStdoutAndNothingElse) {
  const auto result =
      hearth_program({"run", model(), "The capital of France is", "--raw", "--temperature", "0", "--max-tokens", "2"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, " Paris.\n");
  EXPECT_EQ(result.err, "");
}

TEST(Run, PromptFromAPipeAndJson) {
  const auto result = hearth_program({"run", model(), "--raw", "--temperature", "0", "--max-tokens", "2", "--json"},
                                     "The capital of France is\n");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const auto answer = parse_json(result.out).value();
  EXPECT_EQ(answer.at("text").as_string(), " Paris.");
  EXPECT_EQ(answer.at("finish").as_string(), "length");
  EXPECT_EQ(answer.at("usage").at("completion_tokens").to_number<int>(), 2);
}

TEST(Run, ASessionGoesOnWithTheSameWordsAndIsRefusedWhereItDoesNotFit) {
  const TestFolder folder;
  const std::string file = folder.path() / "story.session";
  const auto ask = [&](const std::string& text, const std::string& tokens, std::vector<std::string> more) {
    std::vector<std::string> arguments{HEARTH_PROGRAM,  "run", model(),        text,   "--raw",
                                       "--temperature", "0",   "--max-tokens", tokens, "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return test::run_program(arguments, {{"HEARTH_HOME", folder.path().string()}});
  };
  const std::string begin = "Once upon a time there was a lighthouse keeper who";
  const std::string whole(parse_json(ask(begin, "24", {"--no-cache"}).out).value().at("text").as_string());
  std::string said;
  for (int part = 0; part < 2; ++part) {
    const auto result =
        ask(part == 0 ? begin : " ", part == 0 ? "12" : "4", {"--session", file, "--stats", "--no-cache"});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    said = parse_json(result.out).value().at("text").as_string();
    if (part == 0) {
      EXPECT_TRUE(whole.starts_with(said)) << said;
    } else {
      EXPECT_EQ(result.err.find("(0 cached)"), std::string::npos) << "nothing of it runs again: " << result.err;
    }
  }
  const auto other_type = ask("x", "1", {"--session", file, "--kv-type", "i8", "--no-cache"});
  EXPECT_NE(other_type.exit_code, 0);
  EXPECT_NE(other_type.err.find("--kv-type f16"), std::string::npos) << other_type.err;
  std::filesystem::resize_file(file, std::filesystem::file_size(file) - 1);
  const auto cut = ask("x", "1", {"--session", file, "--no-cache"});
  EXPECT_NE(cut.exit_code, 0);
  EXPECT_NE(cut.err.find("cut short"), std::string::npos) << cut.err;
}

TEST(Run, SameSeedSameAnswerWhateverTheThreads) {
  auto ask = [](std::string seed, std::string threads) {
    return hearth_program({"run", model(), "Once upon a time", "--raw", "--temperature", "1.5", "--top-k", "0",
                           "--seed", seed, "--threads", threads, "--max-tokens", "24"})
        .out;
  };
  const std::string answer = ask("7", "1");
  EXPECT_EQ(ask("7", "2"), answer);
  EXPECT_NE(ask("8", "1"), answer);
}

TEST(Run, WhatIsGuessedChangesNoAnswer) {
  auto ask = [](const std::string& speculate, const std::string& temperature) {
    const auto result = hearth_program({"run", model(), "one, two, three, one, two, three, one, two", "--raw", "--json",
                                        "--temperature", temperature, "--max-tokens", "40", "--speculate", speculate});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return parse_json(result.out).value();
  };
  for (const char* temperature : {"0", "0.8"}) {
    const auto plain = ask("off", temperature);
    EXPECT_EQ(plain.at("usage").at("drafted_tokens").to_number<int>(), 0);
    for (const char* speculate : {"auto", "1", "7", "15"})
      EXPECT_EQ(ask(speculate, temperature).at("text"), plain.at("text")) << speculate;
  }
  EXPECT_GT(ask("7", "0").at("usage").at("accepted_tokens").to_number<int>(), 10);
  const auto wrong = hearth_program({"run", model(), "x", "--speculate", "16"});
  EXPECT_NE(wrong.exit_code, 0);
  EXPECT_NE(wrong.err.find("--speculate 16: want auto, off, or 1 to 15"), std::string::npos) << wrong.err;
}

TEST(Run, SameAnswerWithLessPowerAndItsEnergyIsTold) {
  auto ask = [](std::string power) {
    const auto result = hearth_program({"run", model(), "Once upon a time", "--raw", "--temperature", "1.5", "--seed",
                                        "7", "--max-tokens", "24", "--json", "--power", power});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return parse_json(result.out).value();
  };
  const auto all = ask("100%"), some = ask("30");
  EXPECT_EQ(some.at("text").as_string(), all.at("text").as_string());
  EXPECT_GT(some.at("usage").at("joules").to_number<double>(), 0);
  const auto source = some.at("usage").at("joules_source").as_string();
  EXPECT_TRUE(source == "measured" || source == "estimated") << source;
  for (const char* wrong : {"0", "101", "half", "50 %", "nan", ""})
    EXPECT_EQ(hearth_program({"run", model(), "hi", "--power", wrong}).exit_code, 2) << wrong;
}

TEST(Run, StopTextEndsTheAnswerAndIsNotPartOfIt) {
  const auto result = hearth_program({"run", model(), "The capital of France is", "--raw", "--temperature", "0",
                                      "--max-tokens", "20", "--stop", "s."});
  EXPECT_EQ(result.out, " Pari\n");
}

TEST(Run, TheChatTemplateIsUsedUnlessRaw) {
  const auto result =
      hearth_program({"run", model(), "Say hello.", "--temperature", "0", "--max-tokens", "12", "--stats"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out.find("<|im_"), std::string::npos) << "control tokens are not text";
  EXPECT_NE(result.err.find("tokens/s"), std::string::npos);
}

TEST(Run, ErrorsNameTheRemedyAndHaveTheirExitCodes) {
  const auto missing = hearth_program({"run", "no-such-model", "hi"});
  EXPECT_EQ(missing.exit_code, 66);
  EXPECT_NE(missing.err.find("pull"), std::string::npos) << missing.err;
  EXPECT_EQ(missing.out, "");
  const auto usage = hearth_program({"run", model(), "hi", "--temperature", "-3"});
  EXPECT_EQ(usage.exit_code, 2);
  EXPECT_NE(usage.err.find("-3"), std::string::npos) << usage.err;
  const auto too_long =
      hearth_program({"run", model(), "one two three four five six seven eight nine ten", "--raw", "--context", "4"});
  EXPECT_EQ(too_long.exit_code, 75);
  EXPECT_NE(too_long.err.find("--context"), std::string::npos) << too_long.err;
  const auto empty = hearth_program({"run", model(), "--raw"}, "");
  EXPECT_EQ(empty.exit_code, 2);
}

TEST(Run, AFullContextEndsTheAnswer) {
  const auto result = hearth_program(
      {"run", model(), "Count: one, two, three,", "--raw", "--context", "24", "--temperature", "0", "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const auto answer = parse_json(result.out).value();
  EXPECT_EQ(answer.at("finish").as_string(), "context");
  EXPECT_EQ(answer.at("usage").at("completion_tokens").to_number<int>() +
                answer.at("usage").at("prompt_tokens").to_number<int>(),
            24);
}

TEST(Bench, PrintsTheContractsJson) {
  const auto result = hearth_program(
      {"bench", model(), "--prompt", "16", "--gen", "4", "--depth", "8", "--batch", "1,2", "--repeat", "1", "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const auto report = parse_json(result.out).value();
  std::vector<std::string> tests;
  for (const auto& each : report.at("results").as_array()) {
    tests.emplace_back(each.at("test").as_string());
    EXPECT_GT(each.at("tokens_per_second").to_number<double>(), 0.0);
  }
  EXPECT_EQ(tests, (std::vector<std::string>{"pp16@8", "tg4@8", "tg4x2@8"}));
  EXPECT_GT(report.at("peak_rss_bytes").to_number<double>(), 1e6);
  EXPECT_GT(report.at("load_seconds").to_number<double>(), 0.0);
}

TEST(Eval, AgreesWithLlamaPerplexity) {
  constexpr double kLlamaPerplexity = 68.1643;  // llama-perplexity -f scripts.txt -c 256 --chunks 8
  const auto result = hearth_program({"eval", model(), "--text", HEARTH_TEST_DATA "/tokenizer/scripts.txt", "--context",
                                      "256", "--chunks", "8", "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const double perplexity = parse_json(result.out).value().at("perplexity").to_number<double>();
  EXPECT_NEAR(perplexity / kLlamaPerplexity, 1.0, 0.005);
}

TEST(Eval, AModelDoesNotDivergeFromItself) {
  const auto result =
      hearth_program({"eval", model(), "--reference", model(), "--text", HEARTH_TEST_DATA "/tokenizer/scripts.txt",
                      "--context", "64", "--chunks", "2", "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const auto report = parse_json(result.out).value();
  EXPECT_EQ(report.at("mean_kld").to_number<double>(), 0.0);
  EXPECT_EQ(report.at("same_top").to_number<double>(), 1.0);
}

// A bound for memory costs speed, never an answer.
TEST(Run, AModelLargerThanItsMemoryGivesTheSameAnswer) {
  const auto ask = [](std::vector<std::string> more) {
    std::vector<std::string> arguments{
        "run",       model(), "The capital of France is", "--raw", "--temperature", "0", "--max-tokens", "12",
        "--context", "256"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return hearth_program(arguments);
  };
  const std::string answer = ask({}).out;
  const auto planned = hearth_program({"plan", model(), "--memory", "64G", "--context", "256", "--json"});
  ASSERT_EQ(planned.exit_code, 0) << planned.err;
  const auto json = parse_json(planned.out).value();
  const auto weights = json.at("weight_bytes").to_number<uint64_t>();
  const uint64_t memory = json.at("plan").at("total_bytes").to_number<uint64_t>() - weights / 3;
  const auto streamed = ask({"--memory", std::to_string(memory)});
  EXPECT_EQ(streamed.exit_code, 0) << streamed.err;
  EXPECT_EQ(streamed.out, answer);
  EXPECT_NE(streamed.err.find("read from disk for every token"), std::string::npos) << streamed.err;
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  const auto bench = hearth_program({"bench", model(), "--memory", std::to_string(memory), "--prompt", "64", "--gen",
                                     "8", "--context", "256", "--repeat", "1", "--json"});
  ASSERT_EQ(bench.exit_code, 0) << bench.err;
  EXPECT_LE(parse_json(bench.out).value().at("peak_rss_bytes").to_number<uint64_t>(), memory);
#endif
  const auto nothing = ask({"--memory", "20MiB"});
  EXPECT_NE(nothing.exit_code, 0);
  EXPECT_NE(nothing.err.find("MiB would do"), std::string::npos) << nothing.err;
}

}  // namespace
}  // namespace hearth
