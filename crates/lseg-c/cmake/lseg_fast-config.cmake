# find_package(lseg_fast): the targets lseg_fast::lseg_fast (shared) and lseg_fast::static.
get_filename_component(_lseg_fast_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)

if(NOT TARGET lseg_fast::lseg_fast)
    add_library(lseg_fast::lseg_fast SHARED IMPORTED)
    set_target_properties(lseg_fast::lseg_fast PROPERTIES
        IMPORTED_LOCATION "${_lseg_fast_prefix}/lib/liblseg_fast.so.1"
        IMPORTED_SONAME "liblseg_fast.so.1"
        INTERFACE_INCLUDE_DIRECTORIES "${_lseg_fast_prefix}/include")

    add_library(lseg_fast::static STATIC IMPORTED)
    set_target_properties(lseg_fast::static PROPERTIES
        IMPORTED_LOCATION "${_lseg_fast_prefix}/lib/liblseg_fast.a"
        INTERFACE_INCLUDE_DIRECTORIES "${_lseg_fast_prefix}/include"
        INTERFACE_LINK_LIBRARIES "@LIBS@")
endif()

unset(_lseg_fast_prefix)
