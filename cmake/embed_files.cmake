# cmake "-DFILES=web/*" -DFUNCTION=hearth::serve::page_files -DOUT=page_files.cc -P embed_files.cmake: files (paths and patterns) as
# bytes of a C++ source, with type and a hash of the content; the function gives them as std::span<const EmbeddedFile>.
cmake_minimum_required(VERSION 3.25)
set(type_html "text/html; charset=utf-8")
set(type_css "text/css; charset=utf-8")
set(type_js "text/javascript; charset=utf-8")
set(type_svg "image/svg+xml")

file(GLOB paths LIST_DIRECTORIES false ${FILES})
list(SORT paths)
set(arrays "")
set(rows "")
set(number 0)
foreach(path IN LISTS paths)
  get_filename_component(name ${path} NAME)
  string(REGEX REPLACE ".*\\." "" ending ${name})
  if(NOT DEFINED type_${ending})
    message(FATAL_ERROR "${path}: files of this kind have no type in embed_files.cmake")
  endif()
  file(SHA256 ${path} hash)
  string(SUBSTRING ${hash} 0 20 tag)
  file(READ ${path} hex HEX)
  string(REGEX REPLACE "(..)" "0x\\1," bytes "${hex}")
  string(APPEND arrays "constexpr unsigned char kFile${number}[] = {\n${bytes}};\n")
  string(APPEND rows "    {\"${name}\", \"${type_${ending}}\", \"\\\"${tag}\\\"\", kFile${number}},\n")
  math(EXPR number "${number} + 1")
endforeach()

string(REGEX MATCH "(.*)::(.*)" matched ${FUNCTION})
file(WRITE ${OUT} "#include \"base/embedded_file.h\"\n\nnamespace ${CMAKE_MATCH_1} {\nnamespace {\n${arrays}"
     "constexpr EmbeddedFile kFiles[] = {\n${rows}};\n}  // namespace\n\n"
     "std::span<const EmbeddedFile> ${CMAKE_MATCH_2}() { return kFiles; }\n\n}  // namespace ${CMAKE_MATCH_1}\n")
