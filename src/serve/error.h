// Errors as clients of each dialect read them.
#pragma once

#include <boost/json/object.hpp>

#include "base/result.h"
#include "serve/route.h"

namespace hearth::serve {

// The status of an error that a request caused: what the client asked for wrongly is 400, never 500.
int http_status(const Error& error);
// The body: {"error":{message,type,code,param}}, {"error":"..."} or {"type":"error","error":{type,message}}. An OpenAI error names the
// field before the first ": " of its message as `param` if it is one.
boost::json::object error_body(Dialect dialect, int status, const Error& error);

}  // namespace hearth::serve
