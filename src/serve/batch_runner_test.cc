// Batches as their users see them: what is accepted, what is refused whole, what a restart leaves.
#include "serve/batch_runner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <boost/json.hpp>

#include "serve/multipart.h"
#include "serve/server.h"
#include "support/test_folder.h"

namespace hearth::serve {
namespace {

class BatchRunnerTest : public testing::Test {
 protected:
  std::unique_ptr<Server> start() {
    auto library = std::make_shared<const ModelLibrary>(Store::open(home_.path()).value(), std::vector<GivenModel>{},
                                                        std::map<std::string, std::string>{});
    CatalogOptions options;
    options.loader.planned_bytes = [](const ModelSource&) -> Result<int64_t> { return 1; };
    auto catalog = Catalog::create(std::move(library), std::move(options));
    const Key key = Key::load_or_create(home_.path() / "key").value();
    auto journal = BatchJournal::open(home_.path() / "batches.db", key).value();
    auto server = Server::start({}, std::move(catalog), std::move(journal));
    EXPECT_TRUE(server) << server.error().message;
    return server ? std::move(*server) : nullptr;
  }
  // Of a model that is not there: each line is answered, with 404.
  static std::string line(int number) {
    return fmt::format(R"({{"custom_id":"line {}","method":"POST","url":"/v1/chat/completions",)"
                       R"("body":{{"model":"none","messages":[{{"role":"user","content":"Hi"}}]}}}})"
                       "\n",
                       number);
  }
  TestFolder home_;
  const Identity anna_{.tenant = "anna", .models = {}};
};

TEST_F(BatchRunnerTest, EveryLineGetsItsAnswerUnderItsIdWhateverIsRestarted) {
  std::string lines, id;
  for (int i = 0; i < 30; ++i) lines += line(i);
  {
    const auto server = start();
    BatchJob batch{.id = {},
                   .tenant = "anna",
                   .endpoint = "/v1/chat/completions",
                   .input_file = {},
                   .output_file = {},
                   .error_file = {},
                   .metadata_json = {}};
    id = server->batches()->journal().add_batch(batch, read_batch_lines(lines, batch.endpoint, anna_).value())->id;
    server->batches()->wake();
  }
  const auto server = start();
  BatchJournal& journal = server->batches()->journal();
  while (journal.batch("anna", id)->state == BatchState::kInProgress)
    server->batches()->wait_until_idle(std::chrono::minutes(1));
  const BatchJob done = journal.batch("anna", id).value();
  EXPECT_EQ(done.state, BatchState::kCompleted);
  EXPECT_EQ(done.total, 30);
  EXPECT_EQ(done.failed, 30);
  const std::string errors = journal.content("anna", done.error_file).value();
  EXPECT_EQ(std::ranges::count(errors, '\n'), 30);
  const auto first = boost::json::parse(errors.substr(0, errors.find('\n')));
  EXPECT_EQ(first.at("custom_id"), "line 0");
  EXPECT_EQ(first.at("response").at("status_code"), 404);
  EXPECT_FALSE(journal.content("berta", done.error_file)) << "another tenant's";
}

TEST_F(BatchRunnerTest, AFileWithOneWrongLineIsRefusedWholeAndTheLineNamed) {
  const Identity limited{.tenant = "anna", .models = {"other"}};
  const struct {
    std::string text, said;
    Identity identity;
  } cases[] = {
      {line(1) + "{", "line 2: JSON", anna_},
      {line(1) + "\n[]", "line 3: want an object", anna_},
      {line(1) + line(1), "line 2: custom_id", anna_},
      {R"({"custom_id":7,"method":"POST","url":"/v1/chat/completions","body":{}})", "custom_id", anna_},
      {R"({"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":7})", "body", anna_},
      {R"({"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"stream":true}})", "stream", anna_},
      {R"({"custom_id":"a","method":"POST","url":"/api/delete","body":{}})", "url", anna_},
      {R"({"custom_id":"a","method":"GET","url":"/v1/chat/completions","body":{}})", "method", anna_},
      {"\n \n", "no lines", anna_},
      {line(1), "body.model", limited},
      {R"({"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{}})", "body.model", limited},
  };
  for (const auto& each : cases) {
    const auto lines = read_batch_lines(each.text, "/v1/chat/completions", each.identity);
    ASSERT_FALSE(lines) << each.text;
    EXPECT_NE(lines.error().message.find(each.said), std::string::npos) << lines.error().message;
  }
  EXPECT_FALSE(is_batch_endpoint("/v1/batches"));
}

TEST(Multipart, PartsAreFoundAsClientsWriteThem) {
  const std::string type = "multipart/form-data; boundary=\"xX\"";
  const std::string body =
      "--xX\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n"
      "--xX\r\ncontent-disposition: form-data; name=\"file\"; filename=\"in.jsonl\"\r\nContent-Type: "
      "x/y\r\n\r\n{}\r\n--x\r\n\r\n"
      "--xX--\r\n";
  const auto parts = read_form(type, body).value();
  ASSERT_EQ(parts.size(), 2u);
  EXPECT_EQ(parts[0].name, "purpose");
  EXPECT_EQ(parts[0].content, "batch");
  EXPECT_EQ(parts[1].file_name, "in.jsonl");
  EXPECT_EQ(parts[1].content, "{}\r\n--x\r\n");
  for (size_t n = 0; n < body.size() - 4; ++n) EXPECT_FALSE(read_form(type, body.substr(0, n))) << n;
  for (const char* wrong : {"", "multipart/form-data", "multipart/form-data; boundary=", "text/plain; boundary=xX"})
    EXPECT_FALSE(read_form(wrong, body)) << wrong;
  std::string many;
  for (int i = 0; i < 200; ++i) many += "--xX\r\n\r\n\r\n\r\n";
  EXPECT_EQ(read_form(type, many + "--xX--").error().code, Code::kLimit);
}

}  // namespace
}  // namespace hearth::serve
