// A site: machines that believe each other, by certificates of one authority. What a machine has of it lies in one folder:
//
//   authority.pem             the authority's certificate
//   authority.key             its key, only where the site was made
//   machine.pem, machine.key  this machine's own
#pragma once

#include <atomic>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "net/event_loop.h"
#include "net/http_call.h"
#include "net/tls.h"

namespace hearth::cluster {

// Makes an authority and this machine's certificate. kInvalidArgument if the folder has a site already.
Result<void> make_site(const std::filesystem::path& folder, const std::string& machine);
// What this machine shows and demands of others; kNotFound says how to join.
Result<std::shared_ptr<SiteTls>> open_site(const std::filesystem::path& folder);

// Where they are, for connections over HTTP.
SiteFiles site_files(const std::filesystem::path& folder);

// What a machine needs to join, once: "HOST:PORT/AUTHORITY/SECRET".
struct Invitation {
  std::string address;           // where whoever invites is reached
  std::string authority_digest;  // whose certificate to believe
  std::string secret;
};
std::string to_text(const Invitation& invitation);
// kMalformed if it is none.
Result<Invitation> parse_invitation(std::string_view text);

// Whoever invites: waits for one machine that has the secret, and certifies it.
class InvitationDesk {
 public:
  // `address`: as the other machine reaches this one; port 0 takes a free one.
  static Result<std::unique_ptr<InvitationDesk>> open(const std::filesystem::path& folder,
                                                      const ListenAddress& address);
  ~InvitationDesk();
  [[nodiscard]] const Invitation& invitation() const;
  // The name of the machine that joined. kLimit after a few wrong secrets, so that none can be guessed; kCancelled.
  Result<std::string> wait_for_one(const std::atomic<bool>& interrupted, std::chrono::seconds patience);

 private:
  struct State;
  explicit InvitationDesk(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Joins: makes this machine's key and gets its certificate. The key never leaves the machine.
Result<void> join_site(const std::filesystem::path& folder, const Invitation& invitation, const std::string& machine);

}  // namespace hearth::cluster
