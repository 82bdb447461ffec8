// Where requests go, and where they may not: from tables.
#include "serve/routing.h"

#include <gtest/gtest.h>

#include "serve/reach.h"

namespace hearth::serve {
namespace {

DoorView own() {
  return {.here = true, .slots = 4, .queue_max = 8, .decode_rate = 20, .prompt_rate = 200, .answer_seconds = 4};
}
DoorView other() {
  DoorView view = own();
  view.here = false;
  view.latency_seconds = 0.002;
  return view;
}
constexpr DoorAsk kAsk{.prompt_tokens = 200, .answer_tokens = 60};

struct Case {
  const char* what;
  void (*change)(DoorView& here, DoorView& there, DoorAsk& ask);
  std::vector<size_t> order;
  DoorReason reason;
};

const Case kCases[] = {
    {"equal machines", [](DoorView&, DoorView&, DoorAsk&) {}, {0, 1}, DoorReason::kHere},
    {"a little faster is no reason",
     [](DoorView&, DoorView& b, DoorAsk&) { b.decode_rate *= 1.1; },
     {0, 1},
     DoorReason::kHere},
    {"much faster is", [](DoorView&, DoorView& b, DoorAsk&) { b.decode_rate *= 2; }, {1, 0}, DoorReason::kSpeed},
    {"a queue here",
     [](DoorView& a, DoorView&, DoorAsk&) { a.running = 4, a.waiting = 1; },
     {1, 0},
     DoorReason::kQueue},
    {"a queue there",
     [](DoorView&, DoorView& b, DoorAsk&) { b.running = 4, b.waiting = 1; },
     {0, 1},
     DoorReason::kHere},
    {"the prompt's beginning is there",
     [](DoorView&, DoorView& b, DoorAsk& ask) { b.cached_tokens = 1900, ask.prompt_tokens = 2000; },
     {1, 0},
     DoorReason::kPrefix},
    {"it is there, but so is a queue",
     [](DoorView&, DoorView& b, DoorAsk& ask) {
       b.cached_tokens = 1900, ask.prompt_tokens = 2000, b.running = 4, b.waiting = 8;
     },
     {0},
     DoorReason::kHere},
    {"this machine is hot", [](DoorView& a, DoorView&, DoorAsk&) { a.share = 0.3; }, {1, 0}, DoorReason::kSpeed},
    {"this machine's battery is low",
     [](DoorView& a, DoorView&, DoorAsk&) { a.battery_percent = 10; },
     {1, 0},
     DoorReason::kSpeed},
    {"the other runs on battery",
     [](DoorView&, DoorView& b, DoorAsk&) { b.battery_percent = 80, b.decode_rate *= 1.3; },
     {0, 1},
     DoorReason::kHere},
    {"the model is only there",
     [](DoorView& a, DoorView&, DoorAsk&) { a.has_model = false; },
     {1},
     DoorReason::kOnlyOne},
    {"the model is on disk here, in memory there",
     [](DoorView& a, DoorView&, DoorAsk&) { a.loaded = false; },
     {1, 0},
     DoorReason::kSpeed},
    {"it is in nobody's memory, and there is room for it there",
     [](DoorView& a, DoorView& b, DoorAsk&) { a.loaded = b.loaded = false, a.crowds_out = true; },
     {1, 0},
     DoorReason::kSpeed},
    {"room there is no reason where it is loaded here",
     [](DoorView&, DoorView& b, DoorAsk&) { b.loaded = false; },
     {0, 1},
     DoorReason::kHere},
    {"the other is lost",
     [](DoorView& a, DoorView& b, DoorAsk&) { b.usable = false, a.running = 4, a.waiting = 7; },
     {0},
     DoorReason::kHere},
    {"far away",
     [](DoorView& a, DoorView& b, DoorAsk&) { b.latency_seconds = 30, a.running = 4, a.waiting = 1; },
     {0, 1},
     DoorReason::kHere},
    {"the request stays here",
     [](DoorView& a, DoorView&, DoorAsk& ask) { ask.reach = Reach::kLocal, a.running = 4, a.waiting = 7; },
     {0},
     DoorReason::kHere},
    {"this one is full",
     [](DoorView& a, DoorView&, DoorAsk&) { a.running = 4, a.waiting = 8; },
     {1},
     DoorReason::kOnlyOne},
};

TEST(RoutingTest, AnswersAreGivenWhereTheyAreThereSoonest) {
  for (const Case& each : kCases) {
    DoorView a = own(), b = other();
    DoorAsk ask = kAsk;
    each.change(a, b, ask);
    const DoorView views[] = {a, b};
    const DoorChoice choice = choose_door(views, ask);
    EXPECT_EQ(choice.order, each.order) << each.what;
    EXPECT_EQ(choice.reason, each.reason) << each.what;
    EXPECT_FALSE(choice.cloud) << each.what;
  }
}

TEST(RoutingTest, WhenAllAreFullItIsSaidWhenToComeAgain) {
  DoorView a = own(), b = other();
  a.running = b.running = 4, a.waiting = b.waiting = 8;
  a.answer_seconds = 40, b.answer_seconds = 20;
  const DoorView views[] = {a, b};
  DoorChoice choice = choose_door(views, kAsk);
  EXPECT_TRUE(choice.order.empty() && choice.full);
  EXPECT_EQ(choice.retry_after_seconds, 5) << "the next of its four ends in a quarter of 20 s";
  EXPECT_FALSE(choose_door({}, kAsk).full) << "no machine is not a busy one";
  DoorAsk ask = kAsk;
  ask.reach = Reach::kAny, ask.cloud = true;
  EXPECT_TRUE(choose_door(views, ask).cloud);
  EXPECT_EQ(choose_door(views, ask).reason, DoorReason::kCloudFull);
}

TEST(RoutingTest, ACloudIsAskedOnlyWhereTheSiteCannotAndTheRequestMay) {
  const DoorView views[] = {own(), other()};
  for (const Reach reach : {Reach::kLocal, Reach::kSite, Reach::kAny}) {
    for (const bool there_is_one : {false, true}) {
      DoorAsk ask{
          .prompt_tokens = 200, .answer_tokens = 60, .deadline_seconds = 1, .reach = reach, .cloud = there_is_one};
      const bool may = reach == Reach::kAny && there_is_one;
      EXPECT_EQ(choose_door(views, ask).cloud, may) << "4 s of work and a second's time";
      EXPECT_EQ(choose_door({}, ask).cloud, may) << "no machine has the model";
      ask.deadline_seconds = 60;
      EXPECT_FALSE(choose_door(views, ask).cloud) << "there is time enough";
    }
  }
}

TEST(ReachTest, TheStrictestOfAllThatHasASayHolds) {
  ReachRules rules{.usual = Reach::kSite};
  rules.models = {{"secret", Reach::kLocal}};
  rules.keys = {{"ward", Reach::kSite}};
  rules.classes = {{"patient", Reach::kLocal}, {"weather", Reach::kAny}};
  struct Row {
    const char *key, *model;
    ReachWords said;
    Reach reach;
  };
  const Row rows[] = {
      {"k", "m", {}, Reach::kSite},
      {"k", "m", {.field = "any"}, Reach::kAny},
      {"k", "m", {.header = "any"}, Reach::kAny},
      {"k", "m", {.header = "any", .field = "local-only"}, Reach::kLocal},
      {"k", "m", {.header = "site", .field = "any"}, Reach::kSite},
      {"k", "secret", {.field = "any"}, Reach::kLocal},
      {"ward", "m", {.field = "any"}, Reach::kSite},
      {"ward", "secret", {.field = "any"}, Reach::kLocal},
      {"k", "m", {.field = "any", .class_field = "patient"}, Reach::kLocal},
      {"k", "m", {.field = "any", .class_header = "weather", .class_field = "patient"}, Reach::kLocal},
      {"k", "m", {.field = "any", .class_field = "weather"}, Reach::kAny},
      {"k", "m", {.class_field = "weather"}, Reach::kSite},
      {"k", "m", {.field = "any", .class_field = "nobody said what this is"}, Reach::kLocal},
  };
  for (const Row& row : rows) {
    const auto reach = allowed_reach(rules, row.key, row.model, row.said);
    ASSERT_TRUE(reach);
    EXPECT_EQ(*reach, row.reach) << row.key << " " << row.model << " " << row.said.header << " " << row.said.field;
  }
  for (const char* wrong : {"Any", "local", "*", "any "})
    EXPECT_FALSE(allowed_reach(rules, "k", "m", {.field = wrong})) << wrong;
}

}  // namespace
}  // namespace hearth::serve
