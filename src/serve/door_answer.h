// One request at this door, until it is answered: here, by another door, by the next one if that dies, or by a cloud.
#pragma once

#include <atomic>
#include <boost/json/object.hpp>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "serve/door_frames.h"
#include "serve/doors.h"
#include "serve/route.h"

namespace hearth::serve {

// All of it on the exchange's jobs. Waits for other doors on the worker it is called on.
class DoorAnswer {
 public:
  DoorAnswer(Server& server, Doors& doors, RouteCall call);
  // A new request, or one that came before. What is wrong with it is the client's error.
  Result<void> prepare();
  // The rest of an answer, by its request's name alone: kNotFound.
  Result<void> prepare_resume(std::string request_id);
  void run();

 private:
  enum class Outcome : uint8_t { kDone, kRefused, kLost, kClientGone };

  Result<void> read_names();
  Result<void> read_body(std::string_view body);
  void read_prompt();
  Result<bool> take_up();
  void resolve_model();
  [[nodiscard]] std::vector<DoorView> views(const std::vector<std::shared_ptr<Door>>& others) const;
  [[nodiscard]] const DoorModel* find_model(const DoorState& state) const;
  [[nodiscard]] AnswerOrigin origin() const;
  bool step();
  bool wait_for_room(const DoorChoice& choice);
  void here(DoorReason reason);
  Outcome there(const std::shared_ptr<Door>& door);
  bool take(const DoorFrame& frame, const DoorState& state);
  bool take_events(std::string_view bytes);
  bool take_whole(const DoorFrame& frame, const DoorState& state);
  bool by_cloud();
  void write_cloud(const Answer& answer);
  void note(std::string_view door, std::string_view reason);

  Server& server_;
  Doors& doors_;
  RouteCall call_;
  std::shared_ptr<std::atomic<bool>> gone_ = std::make_shared<std::atomic<bool>>(false);

  boost::json::object body_;
  AnswerRecord record_;
  DoorAsk ask_;
  std::string asked_model_;  // as the client names it
  std::string prompt_;       // what its beginning is known by
  bool streamed_ = false, chat_ = false, anywhere_ = true;
  std::vector<int64_t> told_;  // events that the client has
  bool numbered_ = false;      // the client wants to know their places
  std::string answered_by_;

  std::vector<std::string> excluded_;  // doors that were lost or refused
  bool accepted_ = false;              // somebody had begun with it: it is not given up for want of room
  bool begun_ = false, done_ = false, refused_ = false, cloud_asked_ = false;
  std::string events_;  // of a stream, not yet whole
};

}  // namespace hearth::serve
