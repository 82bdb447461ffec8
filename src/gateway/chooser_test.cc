// What a model is asked and what of its answer is believed, against a server double.
#include "gateway/chooser.h"

#include <gtest/gtest.h>

#include <mutex>

#include "base/json.h"
#include "net/http_server.h"

namespace hearth::gateway {
namespace {

namespace json = boost::json;

// Gives every question the same answer, and keeps what it was asked.
class Server {
 public:
  explicit Server(std::string answer) : answer_(std::move(answer)) {
    HttpServerOptions options;
    options.listen.push_back({.address = parse_listen_address("127.0.0.1:0").value(), .tls = false});
    server_ = HttpServer::start(std::move(options), [this](const std::shared_ptr<HttpExchange>& exchange) {
                {
                  const std::scoped_lock lock(mutex_);
                  bodies_.push_back(parse_json(exchange->request().body).value());
                }
                exchange->reply(200, "application/json", answer_);
              }).value();
  }
  std::string url() const { return fmt::format("http://127.0.0.1:{}", server_->ports().at(0)); }
  std::vector<json::value> bodies() {
    const std::scoped_lock lock(mutex_);
    return bodies_;
  }

 private:
  std::string answer_;
  std::mutex mutex_;
  std::vector<json::value> bodies_;
  std::unique_ptr<HttpServer> server_;  // last: its handler uses the others
};

Question question() {
  Question asked;
  asked.instructions = "What now?", asked.facts = "It burns.";
  asked.options = {{"stop", "stop it, as it burns"}, {"none", "do nothing"}};
  asked.references = {"All is normal.", "It is loud."};
  asked.deadline = std::chrono::seconds(60);
  return asked;
}

// Whoever the model likes whatever it is told would win every time otherwise.
TEST(Chooser, WhatTheModelLikesAnywayIsTakenOutOfItsChoice) {
  Server server(R"({"answers":{"action":{"choice":"stop it, as it burns","confidence":0.7,)"
                R"("probabilities":{"stop it, as it burns":0.2,"do nothing":0.8}}}})");
  Chooser chooser(server.url());
  const auto choice = chooser.choose(question());
  ASSERT_TRUE(choice) << choice.error().message;
  EXPECT_EQ(choice->label, "stop") << "by what it means";
  EXPECT_EQ(choice->confidence, 0.7);
  ASSERT_TRUE(chooser.choose(question()));
  const auto bodies = server.bodies();
  ASSERT_EQ(bodies.size(), 4u) << "two references, once, and two questions";
  EXPECT_EQ(bodies[0].at("state"), "All is normal.");
  EXPECT_EQ(bodies[1].at("state"), "It is loud.");
  EXPECT_EQ(bodies[1].at("questions").at("action").at("criteria"), json::array({"stop it, as it burns", "do nothing"}));
  EXPECT_FALSE(bodies[1].as_object().contains("calibration"));
  for (const size_t i : {2u, 3u}) {
    EXPECT_EQ(bodies[i].at("state"), "It burns.");
    const json::value& prior = bodies[i].at("calibration").at("prior");
    EXPECT_NEAR(prior.at("stop it, as it burns").to_number<double>() / prior.at("do nothing").to_number<double>(), 4,
                1e-9);
  }
}

// Two meanings alike, or none at all: the labels tell them apart.
TEST(Chooser, OptionsThatMeanTheSameAreToldApartByTheirLabels) {
  const Server server(R"({"answers":{"action":{"choice":"b","confidence":0.7}}})");
  Question asked = question();
  asked.options = {{"a", "do it"}, {"b", "do it"}, {"none", ""}};
  Chooser chooser(server.url());
  const auto choice = chooser.choose(asked);
  ASSERT_TRUE(choice) << choice.error().message;
  EXPECT_EQ(choice->label, "b");
}

TEST(Faithful, NumbersAndNamesHaveToBeAmongTheFacts) {
  const std::vector<std::string> names{"pump/speed", "kitchen/light"};
  const std::string_view facts = "pump/vibration is 9.50 mm/s. Usual is 3. slower";
  for (const char* good : {"The vibration of 9.5 mm/s is far above the usual 3.", "It shakes more than usual.",
                           "So the pump is made slower."})
    EXPECT_TRUE(is_faithful(good, facts, names)) << good;
  const std::string long_text = [] {
    std::string text;
    for (int i = 0; i < 41; ++i) text += "so ";
    return text;
  }();
  for (const std::string& bad :
       std::vector<std::string>{"We do what is best for everybody.", "It is what it is.", "It is 95 mm/s.",
                                "It is nine.", "It is nine times ten.", "The Kitchen shakes.", "the kitchen shakes",
                                "Ask Bob.", "pump2 is bad", "One\nTwo", "", long_text})
    EXPECT_FALSE(is_faithful(bad, facts, names)) << bad;
}

}  // namespace
}  // namespace hearth::gateway
