// What doors keep and send: places in streams, records, frames, states.
#include "serve/doors.h"

#include <gtest/gtest.h>

#include <boost/json/serialize.hpp>

#include "base/limits.h"
#include "serve/door_frames.h"
#include "serve/stream_place.h"

namespace hearth::serve {
namespace {

using namespace std::chrono_literals;

TEST(StreamPlaceTest, AStreamThatIsGoneOnWithHasEachEventOnce) {
  const std::vector<std::pair<int, std::string>> stream{
      {0, "data: a\n\ndata: b\n\n"}, {1, "data: c\n\n"}, {0, "data: d\n\n"}};
  const auto run = [&](std::vector<int64_t> told) {
    auto place = StreamPlace::create(2, std::move(told), true);
    std::string all;
    for (const auto& [choice, events] : stream) all += place->pass(choice, events);
    return all + place->pass_other("data: [DONE]\n\n");
  };
  EXPECT_EQ(run({}),
            "id: 1.0.0\ndata: a\n\nid: 2.0.0\ndata: b\n\nid: 2.1.0\ndata: c\n\nid: 3.1.0\ndata: d\n\nid: 3.1.1\ndata: "
            "[DONE]\n\n");
  EXPECT_EQ(run({1, 1, 0}), "id: 2.0.0\ndata: b\n\nid: 3.1.0\ndata: d\n\nid: 3.1.1\ndata: [DONE]\n\n")
      << "choices come in any order, so each is counted apart";
  EXPECT_EQ(run({3, 1, 1}), "");
  auto one = StreamPlace::create(1, {2}, false);
  EXPECT_EQ(one->pass_other("data: echo\n\n"), "");
  EXPECT_EQ(one->pass(0, "data: a\n\ndata: b\n\n"), "data: b\n\n") << "a bare count";
  EXPECT_FALSE(StreamPlace::create(2, {5}, true)) << "five of which?";
  EXPECT_FALSE(StreamPlace::create(1, {1, 2, 3}, true));
}

TEST(StreamPlaceTest, OnlyPlacesAreTaken) {
  EXPECT_EQ(*parse_place("17.0"), (std::vector<int64_t>{17, 0}));
  EXPECT_EQ(place_text(*parse_place("3.1.0")), "3.1.0");
  for (const char* wrong : {"", ".", "1.", ".1", "1..2", "-1", "1x", "99999999999999999999", " 1"})
    EXPECT_FALSE(parse_place(wrong)) << wrong;
}

AnswerRecord some_record(const std::string& tenant, const std::string& id, size_t body_bytes = 10) {
  AnswerRecord record;
  record.request_id = id, record.identity.tenant = tenant, record.path = "/v1/completions", record.model = "m";
  record.origin = {.id = "abc", .created = 5, .seed = 1u << 31, .told = {1, 2}, .numbered = true};
  record.origin.body = std::string(body_bytes, '\n');
  return record;
}

TEST(DoorRecordTest, ARecordArrivesAsItWasAndNothingElseIsTaken) {
  AnswerRecord record = some_record("ward", "r1");
  record.identity.key_sha256 = "k", record.identity.models = {"m"}, record.reach = Reach::kSite;
  record.origin.deadline_seconds = 1.5;
  const auto read = parse_record(to_bytes(record));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(to_bytes(*read), to_bytes(record));
  EXPECT_EQ(read->owner(), record.owner());
  EXPECT_EQ(read->origin.body, record.origin.body);
  for (const char* wrong : {"", "{}", "{}\n", "[]\nx", "{\"id\":1}\n",
                            R"({"id":"a","path":"/","told":[-1]})"
                            "\n",
                            R"({"id":"a","path":"/","reach":"everywhere"})"
                            "\n"})
    EXPECT_FALSE(parse_record(wrong)) << wrong;
}

TEST(DoorRecordTest, RecordsAreTheirOwnersAndGoWithTime) {
  std::chrono::steady_clock::time_point now{1h};
  RecordStore store([&] { return now; });
  const auto put = [&](AnswerRecord record) { store.put(std::make_shared<const AnswerRecord>(std::move(record))); };
  put(some_record("ward", "r1"));
  EXPECT_TRUE(store.find("ward/", "r1"));
  EXPECT_FALSE(store.find("other/", "r1")) << "a tenant resumes its own answers only";
  EXPECT_FALSE(store.find("ward/", "r2"));
  now += 10min;
  put(some_record("ward", "r1"));
  now += 10min;
  EXPECT_TRUE(store.find("ward/", "r1")) << "it came again ten minutes ago";
  now += 10min;
  EXPECT_FALSE(store.find("ward/", "r1"));
  for (int i = 0; i < 100; ++i) put(some_record("ward", std::to_string(i), 1 << 20));
  EXPECT_LE(store.size(), limits::kDoorRecordBytes >> 20);
  EXPECT_TRUE(store.find("ward/", "99"));
  EXPECT_FALSE(store.find("ward/", "0")) << "the oldest go";
  for (size_t i = 0; i < 2 * limits::kDoorRecords; ++i) put(some_record("ward", std::to_string(i), 1));
  EXPECT_LE(store.size(), limits::kDoorRecords);
}

TEST(DoorFrameTest, FramesArriveWholeHoweverTheyAreCut) {
  const std::string bytes =
      to_bytes(DoorFrame{'b', "{}"}) + to_bytes(DoorFrame{}) + to_bytes(DoorFrame{'w', std::string(300, 'x')});
  for (const size_t step : {size_t{1}, size_t{7}, bytes.size()}) {
    DoorFrameReader reader;
    std::string kinds;
    for (size_t at = 0; at < bytes.size(); at += step) {
      reader.feed(std::string_view(bytes).substr(at, step));
      for (auto frame = reader.next(); frame && *frame; frame = reader.next()) kinds += (*frame)->kind;
    }
    EXPECT_EQ(kinds, "b.w");
  }
  DoorFrameReader unknown, endless;
  unknown.feed(std::string_view("x\1\0\0\0a", 6));
  EXPECT_FALSE(unknown.next());
  endless.feed("w\xff\xff\xff\xff");
  EXPECT_FALSE(endless.next());
}

TEST(DoorStateTest, WhatAnotherDoorTellsIsBounded) {
  const auto state = parse_door_state(
      R"({"name":"b","slots":-3,"share":7,"decode_rate":-1,"battery_percent":400,"room_bytes":-5,"models":[{"name":"m","running":-9,"digest":4}]})");
  ASSERT_TRUE(state);
  EXPECT_EQ(state->slots, 1);
  EXPECT_EQ(state->power.share, 1);
  EXPECT_EQ(state->decode_rate, 0);
  EXPECT_EQ(state->power.battery_percent, 100);
  EXPECT_FALSE(state->room_bytes);
  EXPECT_EQ(parse_door_state(R"({"room_bytes":7})")->room_bytes, 7);
  EXPECT_EQ(state->models.at(0).running, 0);
  const auto again = parse_door_state(boost::json::serialize(to_json(*state)));
  EXPECT_EQ(boost::json::serialize(to_json(*again)), boost::json::serialize(to_json(*state)));
  for (const char* wrong : {"", "[]", R"({"models":[1]})", "{\"models\":[[[[[[]]]]]]}"})
    EXPECT_FALSE(parse_door_state(wrong)) << wrong;
}

}  // namespace
}  // namespace hearth::serve
