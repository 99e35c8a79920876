# How Ferry's targets are made: flags, libraries by folder, programs, and the TLS libraries.

# Warnings, hardening and sanitizers of our own code. Foreign headers come in as system
# headers, so that they are not held to it.
add_library(ferry_flags INTERFACE)
target_compile_definitions(ferry_flags INTERFACE _GNU_SOURCE FERRY_PROGRAM_VERSION="${PROJECT_VERSION}")
target_include_directories(ferry_flags INTERFACE "${CMAKE_SOURCE_DIR}")
target_compile_options(ferry_flags INTERFACE
    -Wall -Wextra -Wshadow -Wconversion -Wvla -Werror
    -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wundef
    -fno-common -fstack-protector-strong)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    target_compile_options(ferry_flags INTERFACE -fcf-protection)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
    target_compile_options(ferry_flags INTERFACE -mbranch-protection=standard)
endif()
target_link_options(ferry_flags INTERFACE -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,--as-needed)
if(FERRY_ASAN)
    target_compile_options(ferry_flags INTERFACE
        -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_link_options(ferry_flags INTERFACE -fsanitize=address,undefined)
    target_compile_definitions(ferry_flags INTERFACE FERRY_SANITIZED=1)
else()
    # gcc 12 and clang 14, the oldest that Debian 12 has, both know level 3.
    target_compile_options(ferry_flags INTERFACE -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3)
endif()
if(FERRY_FUZZ)
    if(NOT CMAKE_C_COMPILER_ID MATCHES "Clang")
        message(FATAL_ERROR "FERRY_FUZZ needs clang: configure with the preset 'fuzz'.")
    endif()
    target_compile_options(ferry_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

# ferry_find_tls(): defines ferry_tls (libwebsockets on mbedTLS), built by tools/setup from
# Debian's sources with the patches in tools/tls/patches. Both are static: what is tested is
# what is shipped.
function(ferry_find_tls)
    execute_process(COMMAND "${CMAKE_SOURCE_DIR}/tools/tls/build" --prefix
                    OUTPUT_VARIABLE prefix OUTPUT_STRIP_TRAILING_WHITESPACE
                    RESULT_VARIABLE status)
    set(FERRY_TLS_PREFIX "" CACHE PATH "TLS libraries made elsewhere; empty: those of tools/setup")
    if(FERRY_TLS_PREFIX)
        set(prefix "${FERRY_TLS_PREFIX}")
    elseif(NOT status EQUAL 0)
        message(FATAL_ERROR "tools/tls/build --prefix failed; run tools/setup.")
    endif()
    if(NOT EXISTS "${prefix}/lib/libwebsockets.a")
        message(FATAL_ERROR "The TLS libraries are not built yet (${prefix}); run tools/setup first.")
    endif()
    # A changed patch or flag moves the prefix: configure again then.
    file(GLOB recipe CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/tools/tls/patches/*.patch")
    set_property(DIRECTORY "${CMAKE_SOURCE_DIR}" APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS
                 "${CMAKE_SOURCE_DIR}/tools/tls/build" ${recipe})
    message(STATUS "TLS libraries: ${prefix}")
    add_library(ferry_tls INTERFACE)
    target_include_directories(ferry_tls SYSTEM INTERFACE "${prefix}/include")
    target_link_libraries(ferry_tls INTERFACE
        "${prefix}/lib/libwebsockets.a" "${prefix}/lib/libmbedtls.a"
        "${prefix}/lib/libmbedx509.a" "${prefix}/lib/libmbedcrypto.a" Threads::Threads)
endfunction()

# ferry_library(<name> [EXCEPT <file>...] [LINK <target>...]): every .c of the folder. A
# folder without sources makes an empty library, so that the tree configures at any time.
function(ferry_library name)
    cmake_parse_arguments(arg "" "" "EXCEPT;LINK" ${ARGN})
    file(GLOB sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*.c")
    foreach(file ${arg_EXCEPT})
        list(REMOVE_ITEM sources "${CMAKE_CURRENT_SOURCE_DIR}/${file}")
    endforeach()
    if(sources)
        add_library(${name} STATIC ${sources})
        target_link_libraries(${name} PUBLIC ferry_flags ${arg_LINK})
    else()
        add_library(${name} INTERFACE)
        target_link_libraries(${name} INTERFACE ferry_flags ${arg_LINK})
    endif()
endfunction()

# ferry_program(<name> <source> [LINK <target>...]): an installed executable, made once its
# source exists.
function(ferry_program name source)
    cmake_parse_arguments(arg "" "" "LINK" ${ARGN})
    # The glob, unlike EXISTS, configures again when the file appears.
    file(GLOB found CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/${source}")
    if(NOT found)
        return()
    endif()
    add_executable(${name} ${source})
    target_link_libraries(${name} PRIVATE ferry_flags ${arg_LINK})
    install(TARGETS ${name} RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
endfunction()
