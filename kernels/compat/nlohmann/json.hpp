// Stands in for nlohmann/json, which ATen/functorch/Interpreter.h includes but libtorch does not ship. Only that
// header's (de)serialisers use it, and nothing here calls them: they must compile, not work.
#pragma once
#include <stdexcept>
#include <string>

namespace nlohmann {
struct json {
  json() = default;
  template <class T> json(const T&) {}
  template <class T> json& operator=(const T&) { return *this; }
  template <class K> json& operator[](const K&) { return *this; }
  template <class K> const json& operator[](const K&) const { return *this; }
  template <class K> const json& at(const K&) const { return *this; }
  template <class T> T get() const { throw std::logic_error("no JSON support in this build"); }
  template <class T> void get_to(T&) const { throw std::logic_error("no JSON support in this build"); }
  template <class T> operator T() const { throw std::logic_error("no JSON support in this build"); }
  template <class T> bool operator==(const T&) const { return false; }
  bool is_null() const { return true; }
  bool contains(const char*) const { return false; }
  std::string dump() const { throw std::logic_error("no JSON support in this build"); }
  static json parse(const std::string&) { throw std::logic_error("no JSON support in this build"); }
};
}  // namespace nlohmann
