# hearth_room(NAME [SOURCES ...] [DEPENDS rooms...] [LIBRARIES targets...] [TESTS ...])
# One static library hearth_NAME per folder of src/, and one test program NAME_test from its *_test.cc files.
function(hearth_room name)
  cmake_parse_arguments(ROOM "" "" "SOURCES;DEPENDS;LIBRARIES;TESTS" ${ARGN})
  add_library(hearth_${name} STATIC ${ROOM_SOURCES})
  target_include_directories(hearth_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
  list(TRANSFORM ROOM_DEPENDS PREPEND hearth_)
  target_link_libraries(hearth_${name} PUBLIC hearth_options ${ROOM_DEPENDS} ${ROOM_LIBRARIES})
  set_target_properties(hearth_${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  hearth_tested(${name} tested)
  if(tested AND ROOM_TESTS)
    hearth_test(${name}_test SOURCES ${ROOM_TESTS} LIBRARIES hearth_${name})
  endif()
endfunction()

# hearth_tested(PART VARIABLE): whether this preset runs the tests of a room or of a folder of tests/ (HEARTH_TEST_PARTS).
function(hearth_tested part variable)
  set(${variable} OFF PARENT_SCOPE)
  if(HEARTH_TESTS AND (NOT HEARTH_TEST_PARTS OR part IN_LIST HEARTH_TEST_PARTS))
    set(${variable} ON PARENT_SCOPE)
  endif()
endfunction()

# hearth_test(NAME SOURCES ... LIBRARIES ...): a GoogleTest program, each of its tests one entry of ctest.
function(hearth_test name)
  cmake_parse_arguments(TEST "" "" "SOURCES;LIBRARIES" ${ARGN})
  add_executable(${name} ${TEST_SOURCES})
  target_link_libraries(${name} PRIVATE ${TEST_LIBRARIES} GTest::gtest GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE HEARTH_TEST_DATA="${PROJECT_SOURCE_DIR}/tests/data")
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  add_dependencies(hearth_test_programs ${name})
  gtest_discover_tests(${name} TEST_PREFIX "${HEARTH_TEST_PREFIX}" DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
                       PROPERTIES TIMEOUT 300)
endfunction()
