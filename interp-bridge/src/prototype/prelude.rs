//! The type names that every prototype may use without declaring them, as glibc has them on
//! x86-64.

/// Names that the parser has to know as types, but whose declaration below is only a stand-in.
pub(super) const WIDE: &[(&str, bool)] = &[
    ("__int128", true),
    ("__int128_t", true),
    ("__uint128_t", false),
];

/// C text of the declarations.
pub(super) const PRELUDE: &str = "\
typedef _Bool bool;
typedef signed char int8_t; typedef unsigned char uint8_t;
typedef short int16_t; typedef unsigned short uint16_t;
typedef int int32_t; typedef unsigned int uint32_t;
typedef long int64_t; typedef unsigned long uint64_t;
typedef signed char int_least8_t; typedef unsigned char uint_least8_t;
typedef short int_least16_t; typedef unsigned short uint_least16_t;
typedef int int_least32_t; typedef unsigned int uint_least32_t;
typedef long int_least64_t; typedef unsigned long uint_least64_t;
typedef signed char int_fast8_t; typedef unsigned char uint_fast8_t;
typedef long int_fast16_t; typedef unsigned long uint_fast16_t;
typedef long int_fast32_t; typedef unsigned long uint_fast32_t;
typedef long int_fast64_t; typedef unsigned long uint_fast64_t;
typedef long __int128; typedef long __int128_t; typedef unsigned long __uint128_t;
typedef long intptr_t; typedef unsigned long uintptr_t;
typedef long intmax_t; typedef unsigned long uintmax_t;
typedef unsigned long size_t; typedef long ssize_t; typedef long ptrdiff_t;
typedef int wchar_t; typedef unsigned int wint_t;
typedef unsigned short char16_t; typedef unsigned int char32_t;
typedef long off_t; typedef long off64_t; typedef long loff_t;
typedef long time_t; typedef long clock_t; typedef long suseconds_t; typedef int clockid_t;
typedef int pid_t; typedef unsigned int uid_t; typedef unsigned int gid_t;
typedef unsigned int id_t; typedef unsigned int mode_t; typedef unsigned long dev_t;
typedef unsigned long ino_t; typedef unsigned long nlink_t;
typedef unsigned int socklen_t; typedef unsigned short sa_family_t;
typedef unsigned long rlim_t; typedef unsigned int useconds_t;
typedef unsigned char u_char; typedef unsigned short u_short;
typedef unsigned int u_int; typedef unsigned long u_long;
typedef unsigned short ushort; typedef unsigned int uint; typedef unsigned long ulong;
typedef struct _IO_FILE FILE; typedef struct __dirstream DIR;
typedef struct { int quot; int rem; } div_t;
typedef struct { long quot; long rem; } ldiv_t;
typedef struct { long long quot; long long rem; } lldiv_t;
struct timespec { long tv_sec; long tv_nsec; };
struct timeval { long tv_sec; long tv_usec; };
";
