// The commands that look at a model or at the machine, run as a user runs them: the answer on stdout, the rest on stderr.
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <cstdlib>
#include <filesystem>

#include "model/gguf_writer.h"
#include "support/program.h"
#include "support/test_folder.h"

namespace hearth {
namespace {
namespace json = boost::json;
using test::ProgramResult;

// A llama model of one layer's shapes with a SentencePiece vocabulary of bytes and two words.
void write_model(const std::string& path) {
  GgufWriter writer;
  writer.set("general.architecture", "llama");
  writer.set("general.name", "a name with \x1b[31m in it");
  for (const auto& [key, value] : {std::pair{"block_count", 1u},
                                   {"context_length", 64u},
                                   {"embedding_length", 32u},
                                   {"feed_forward_length", 64u},
                                   {"attention.head_count", 2u},
                                   {"attention.head_count_kv", 1u},
                                   {"vocab_size", 264u}}) {
    writer.set(std::string("llama.") + key, uint32_t{value});
  }
  writer.set("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  std::vector<std::string> tokens{"<unk>", "<s>", "</s>"};
  std::vector<int32_t> kinds{2, 3, 3};
  for (int byte = 0; byte < 256; ++byte) {
    tokens.push_back(fmt::format("<0x{:02X}>", byte));
    kinds.push_back(6);
  }
  tokens.insert(tokens.end(), {"\xE2\x96\x81", "h", "i", "hi", "\xE2\x96\x81hi"});
  kinds.resize(tokens.size(), 1);
  std::vector<float> scores(tokens.size(), 0.0f);
  scores[tokens.size() - 2] = -1.0f;
  scores[tokens.size() - 1] = -2.0f;
  writer.set("tokenizer.ggml.model", "llama");
  writer.set("tokenizer.ggml.tokens", std::span<const std::string>(tokens));
  writer.set("tokenizer.ggml.scores", std::span<const float>(scores));
  writer.set("tokenizer.ggml.token_type", std::span<const int32_t>(kinds));
  writer.set("tokenizer.ggml.bos_token_id", uint32_t{1});
  writer.set("tokenizer.ggml.eos_token_id", uint32_t{2});
  const std::vector<std::byte> zeros(32 * 1024);
  const uint64_t square[] = {32, 32}, vector[] = {32}, embedding[] = {32, 264};
  writer.add_tensor("token_embd.weight", Type::kF16, embedding, std::span(zeros).first(size_t{2} * 32 * 264));
  writer.add_tensor("blk.0.attn_q.weight", Type::kF16, square, std::span(zeros).first(2048));
  writer.add_tensor("blk.0.attn_norm.weight", Type::kF32, vector, std::span(zeros).first(128));
  ASSERT_TRUE(writer.write(path));
}

class CommandsTest : public testing::Test {
 protected:
  void SetUp() override { write_model(model_); }
  [[nodiscard]] ProgramResult hearth(const std::vector<std::string>& arguments, const std::string& input = "") const {
    std::vector<std::string> all{HEARTH_PROGRAM};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return test::run_program(all, {{"HEARTH_HOME", home_.path().string() + "/store"}}, input);
  }
  // The JSON on stdout; null if it is none.
  [[nodiscard]] json::value answer(const std::vector<std::string>& arguments, const std::string& input = "") const {
    json::error_code error;
    return json::parse(hearth(arguments, input).out, error);
  }

  TestFolder home_;
  std::string model_ = home_.path().string() + "/m.gguf";
};

TEST_F(CommandsTest, TokenizeFollowsTheContract) {
  test::write_whole(home_.path().string() + "/text", "hi");
  const json::value plain = json::parse(R"({"tokens":[263]})"), begun = json::parse(R"({"tokens":[1,263]})");
  EXPECT_EQ(answer({"tokenize", model_, "hi", "--json"}), plain);
  EXPECT_EQ(answer({"tokenize", model_, "--file", home_.path().string() + "/text", "--json"}), plain);
  EXPECT_EQ(answer({"tokenize", model_, "--json"}, "hi"), plain);
  EXPECT_EQ(answer({"tokenize", model_, "hi", "--json", "--bos"}), begun);
  EXPECT_EQ(answer({"tokenize", model_, "", "--json"}), json::parse(R"({"tokens":[]})"));
  // The text of a control token is text unless --special is given.
  EXPECT_EQ(answer({"tokenize", model_, "</s>", "--json", "--special"}), json::parse(R"({"tokens":[2]})"));
  EXPECT_GT(answer({"tokenize", model_, "</s>", "--json"}).at("tokens").as_array().size(), 3u);
  EXPECT_EQ(hearth({"tokenize", model_, "hi", "--file", "x"}).exit_code, 2);
  EXPECT_EQ(hearth({"tokenize", model_, "--file", home_.path().string() + "/absent"}).exit_code, 66);
}

TEST_F(CommandsTest, ModelsOfOllamaAreListedAndUsedWhereTheyLie) {
  const std::string folder = home_.path().string() + "/ollama", digest(64, 'a');
  std::filesystem::create_directories(folder + "/blobs");
  std::filesystem::create_directories(folder + "/manifests/host/library/small");
  const std::string blob = folder + "/blobs/sha256-" + digest;
  std::filesystem::copy_file(model_, blob);
  test::write_whole(folder + "/manifests/host/library/small/1b",
                    fmt::format(R"({{"layers":[{{"mediaType":"application/vnd.ollama.image.model",)"
                                R"("digest":"sha256:{}","size":{}}}]}})",
                                digest, std::filesystem::file_size(blob)));
  ::setenv("OLLAMA_MODELS", folder.c_str(), 1);
  EXPECT_EQ(answer({"list", "--json"}).at("models").at(0).at("name"), "small:1b");
  EXPECT_EQ(answer({"tokenize", "small:1b", "hi", "--json"}), json::parse(R"({"tokens":[263]})"));
  ::unsetenv("OLLAMA_MODELS");
}

TEST_F(CommandsTest, InspectCountsTrueBitsAndPlansMemory) {
  const json::value report = answer({"inspect", model_, "--json", "--context", "64"});
  ASSERT_TRUE(report.is_object());
  const json::value& weights = report.at("weights");
  EXPECT_DOUBLE_EQ(weights.at("by_kind").at("attention").at("bits_per_weight").as_double(), 16.0);
  EXPECT_EQ(weights.at("all").at("elements"), 264 * 32 + 32 * 32 + 32);
  EXPECT_EQ(report.at("metadata").at("llama.block_count"), 1);
  ASSERT_TRUE(report.at("memory").as_object().contains("family")) << report.at("memory");
  EXPECT_EQ(report.at("memory").at("family"), "llama");
  EXPECT_GT(report.at("memory").at("kv_bytes").to_number<int64_t>(), 0);
  EXPECT_EQ(report.at("tensors").as_array().size(), 3u);
  // Text from a file must not reach a terminal as escape sequences.
  const ProgramResult text = hearth({"inspect", model_, "--tensors"});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_EQ(text.out.find('\x1b'), std::string::npos);
  EXPECT_NE(text.out.find("blk.0.attn_q.weight"), std::string::npos);
  EXPECT_EQ(hearth({"inspect", model_, "--kv-type", "f64"}).exit_code, 2);
  test::write_whole(home_.path().string() + "/broken.gguf", "GGUF");
  EXPECT_EQ(hearth({"inspect", home_.path().string() + "/broken.gguf"}).exit_code, 65);
}

TEST_F(CommandsTest, DoctorAnswersAndNamesWrongSettings) {
  const json::value report = answer({"doctor", "--json"});
  ASSERT_TRUE(report.is_object());
  EXPECT_EQ(report.at("isas").at(0), "scalar");
  EXPECT_GT(report.at("memory").at("bytes").to_number<int64_t>(), 0);
  EXPECT_EQ(report.at("problems").as_array().size(), 0u);
  const ProgramResult wrong =
      test::run_program({HEARTH_PROGRAM, "doctor"}, {{"HEARTH_HOME", home_.path().string()}, {"HEARTH_ISA", "abacus"}});
  EXPECT_NE(wrong.out.find("'abacus'"), std::string::npos) << wrong.out;
}

TEST_F(CommandsTest, PowerSaysWhatItKnowsAndWhatNot) {
  const json::value state = answer({"power", "--json", "--power", "50%", "--power-profile", "saver"});
  ASSERT_TRUE(state.is_object());
  EXPECT_EQ(state.at("profile"), "saver");
  EXPECT_EQ(state.at("settings").at("share"), 0.5);
  for (const auto& [name, reading] : state.at("sensors").as_object()) {
    if (!reading.is_object()) continue;
    EXPECT_EQ(reading.at("value").is_null(), reading.at("source") == "absent") << std::string_view(name);
  }
  const ProgramResult text = hearth({"power"});
  EXPECT_TRUE(text.out.contains("temperature")) << text.out << text.err;
  EXPECT_EQ(text.out.find('\x1b'), std::string::npos) << "plain lines where there is no terminal";
  EXPECT_EQ(hearth({"power", "--power-profile", "fast"}).exit_code, 2);
  EXPECT_NE(hearth({"power", "--server", "http://127.0.0.1:1"}).exit_code, 0);
}

TEST_F(CommandsTest, EveryCommandHasHelpExamplesAndAPlaceInTheManual) {
  const std::string manual = hearth({"man"}).out;
  const std::string completions = hearth({"completion", "bash"}).out;
  for (const char* command : {"run", "embed", "pull", "list", "show", "rm", "inspect", "tokenize", "bench", "eval",
                              "doctor", "verify", "cache", "exits", "sparsity"}) {
    const ProgramResult help = hearth({command, "--help"});
    EXPECT_EQ(help.exit_code, 0) << command;
    EXPECT_NE(help.out.find("Examples:\n  hearth "), std::string::npos) << command;
    EXPECT_NE(manual.find(std::string(".SS hearth ") + command), std::string::npos) << command;
    EXPECT_NE(completions.find(std::string("      ") + command + ")"), std::string::npos) << command;
  }
}

// From the first use to the last: imported, mapped, checked, limited, deleted; the answer is always the same.
TEST_F(CommandsTest, PacksAreMadeVerifiedAndCleared) {
  const std::string model = HEARTH_TEST_DATA "/families/llama/model.gguf";
  const std::vector<std::string> run{"run", model, "THE CAT", "--raw", "--temperature", "0", "--max-tokens", "8"};
  EXPECT_EQ(hearth({"verify", model}).exit_code, 66) << "there is no pack yet";
  const ProgramResult first = hearth(run), mapped = hearth(run);
  EXPECT_EQ(first.exit_code, 0) << first.err;
  EXPECT_EQ(first.err + mapped.err, "");
  EXPECT_EQ(first.out, mapped.out);
  const json::value cache = answer({"cache", "--json"});
  ASSERT_TRUE(cache.is_object());
  ASSERT_EQ(cache.at("packs").as_array().size(), 1u);
  const std::string pack(cache.at("packs").at(0).at("path").as_string());
  EXPECT_EQ(cache.at("packs").at(0).at("model"), "model.gguf");
  EXPECT_EQ(answer({"verify", model, "--json"}).at("ok"), true);
  EXPECT_EQ(hearth({"verify", pack}).exit_code, 0);
  const ProgramResult direct = hearth({"run", pack, "THE CAT", "--raw", "--temperature", "0", "--max-tokens", "8"});
  EXPECT_EQ(direct.out, first.out) << direct.err;
  // A changed weight is found; a pack cut short is refused as a file, and made anew in the cache.
  std::string bytes = test::read_whole(pack);
  bytes.back() ^= 1;
  test::write_whole(pack, bytes);
  EXPECT_EQ(hearth({"verify", model}).exit_code, 65);
  EXPECT_EQ(answer({"verify", model, "--json"}).at("ok"), false);
  test::write_whole(pack, bytes.substr(0, bytes.size() / 2));
  EXPECT_EQ(hearth({"run", pack, "THE CAT", "--raw"}).exit_code, 65);
  const ProgramResult again = hearth(run);
  EXPECT_EQ(again.out, first.out);
  EXPECT_NE(again.err.find("it is made anew"), std::string::npos) << again.err;
  // A limit that no pack keeps to, none to use, none left.
  EXPECT_EQ(hearth({"cache", "--limit", "2X"}).exit_code, 2);
  EXPECT_EQ(answer({"cache", "--limit", "1K", "--json"}).at("packs").as_array().size(), 0u);
  EXPECT_EQ(hearth(run).out, first.out);
  EXPECT_EQ(answer({"cache", "--limit", "1GiB", "--json"}).at("limit_bytes"), 1 << 30);
  std::vector<std::string> without = run;
  without.push_back("--no-cache");
  EXPECT_EQ(hearth(without).out, first.out);
  EXPECT_EQ(answer({"cache", "--json"}).at("bytes"), 0);
  (void)hearth(run);
  EXPECT_EQ(answer({"cache", "clear", "--json"}).at("packs").as_array().size(), 0u);
}

TEST_F(CommandsTest, WrongUsageExitsWith2AndSaysWhatToDo) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{}, {"lisst"}, {"list", "--no-such"}, {"show"}, {"completion", "tcsh"}}) {
    const ProgramResult result = hearth(arguments);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_EQ(result.out, "");
    EXPECT_TRUE(result.err.starts_with("hearth: ")) << result.err;
  }
  EXPECT_NE(hearth({"lisst"}).err.find("'list'"), std::string::npos);
  EXPECT_EQ(hearth({"show", "no-such-model"}).exit_code, 66);
  EXPECT_EQ(hearth({"--version"}).exit_code, 0);
}

TEST_F(CommandsTest, AnAnswerThatCannotBeWrittenIsAnError) {
  const ProgramResult full = test::run_program({"sh", "-c", HEARTH_PROGRAM " doctor >/dev/full"},
                                               {{"HEARTH_HOME", home_.path().string() + "/store"}});
  EXPECT_EQ(full.exit_code, 74) << full.err;
}

}  // namespace
}  // namespace hearth
