// Exceptions do not leave a routine of pullback.h: it returns their message instead.
#pragma once
#include <c10/util/Exception.h>

#include <exception>
#include <string>

// Runs `body`; returns nullptr, or a message that is valid at least until the thread's next call.
template <class F> const char* protect(F&& body) {
  static thread_local std::string message;
  try {
    body();
    return nullptr;
  } catch (const c10::Error& e) {
    message = e.what_without_backtrace();
  } catch (const std::exception& e) {
    message = e.what();
  } catch (...) {
    message = "unknown C++ exception";
  }
  return message.c_str();
}
