# Builds for 64-bit ARM on another Debian machine (crossbuild-essential-arm64), against the
# arm64 packages of the same Debian (multiarch).
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)

set(FERRY_TRIPLET aarch64-linux-gnu)
set(CMAKE_C_COMPILER ${FERRY_TRIPLET}-gcc)
set(CMAKE_LIBRARY_ARCHITECTURE ${FERRY_TRIPLET})

# Programs run here; headers and libraries are the target's.
set(CMAKE_FIND_ROOT_PATH /usr/${FERRY_TRIPLET})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY BOTH)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE BOTH)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE BOTH)

# pkg-config must not answer with this machine's libraries.
set(ENV{PKG_CONFIG_LIBDIR} /usr/lib/${FERRY_TRIPLET}/pkgconfig:/usr/share/pkgconfig)
set(ENV{PKG_CONFIG_PATH} "")
