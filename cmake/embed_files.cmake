# cmake -DFOLDER=web -DOUT=page_files.cc -P embed_files.cmake: every file of a folder as bytes of a C++ source, with its type and a
# hash of its content. src/serve/page_files.h declares what the source defines.
cmake_minimum_required(VERSION 3.25)
set(type_html "text/html; charset=utf-8")
set(type_css "text/css; charset=utf-8")
set(type_js "text/javascript; charset=utf-8")
set(type_svg "image/svg+xml")

file(GLOB names RELATIVE ${FOLDER} ${FOLDER}/*)
list(SORT names)
set(arrays "")
set(rows "")
set(number 0)
foreach(name IN LISTS names)
  string(REGEX REPLACE ".*\\." "" ending ${name})
  if(NOT DEFINED type_${ending})
    message(FATAL_ERROR "${FOLDER}/${name}: files of this kind have no type in embed_files.cmake")
  endif()
  file(SHA256 ${FOLDER}/${name} hash)
  string(SUBSTRING ${hash} 0 20 tag)
  file(READ ${FOLDER}/${name} hex HEX)
  string(REGEX REPLACE "(..)" "0x\\1," bytes "${hex}")
  string(APPEND arrays "constexpr unsigned char kFile${number}[] = {\n${bytes}};\n")
  string(APPEND rows "    {\"${name}\", \"${type_${ending}}\", \"\\\"${tag}\\\"\", kFile${number}},\n")
  math(EXPR number "${number} + 1")
endforeach()

file(WRITE ${OUT} "#include \"serve/page_files.h\"\n\nnamespace hearth::serve {\nnamespace {\n${arrays}"
     "constexpr PageFile kFiles[] = {\n${rows}};\n}  // namespace\n\n"
     "std::span<const PageFile> page_files() { return kFiles; }\n\n}  // namespace hearth::serve\n")
