//! Bindings that are refused, and what is said about them.

use super::*;

#[test]
fn bad_bindings_say_what_and_how_to_mend_it() {
    let scalar = "void f(int x)";
    let buf = "void f(const unsigned char *buf, unsigned int len)";
    let shape = "void f(struct shape s)";
    // prototype, bindings, part of the message, part of the help
    let cases = [
        (scalar, "x", "not of the form NAME=VALUE", "len=len(buf)"),
        (scalar, "=1", "not of the form", "bind"),
        (scalar, "1x=1", "not of the form", "bind"),
        (scalar, "x=1 x=2", "`x` is bound twice", "one value"),
        (scalar, "", "no value for `x`", "'x=0'"),
        (
            buf,
            "",
            "no value for `buf` and `len`",
            "'buf=bytes:hello' 'len=len(buf)'",
        ),
        (buf, "len=1", "no value for `buf`", "'buf=bytes:hello'"),
        (
            buf,
            "buff=zero:1 len=1",
            "no parameter named `buff`",
            "did you mean `buf`?",
        ),
        (
            buf,
            "buf=zero:1 len=1 extra=zero:4",
            "no parameter named `extra`",
            "'&extra'",
        ),
        (
            buf,
            "buf=zero:1 len=1 extra=4",
            "no parameter named `extra`",
            "parameters are buf, len",
        ),
        (
            "void f(void)",
            "x=1",
            "no parameter named `x`",
            "no arguments",
        ),
        (scalar, "x=1.5", "whole numbers", "whole number"),
        (scalar, "x=", "empty", "number"),
        (scalar, "x=foo", "no number for `int`", "42"),
        (scalar, "x=GREE", "no number for `int`", "GREEN"),
        (scalar, "x=null", "`int` is no pointer", "write 0"),
        (
            scalar,
            "x=2147483648",
            "holds -2147483648 to 2147483647",
            "x=-2147483648",
        ),
        (scalar, "x=0xffffffff", "does not fit `int`", "x=-1"),
        (
            scalar,
            "x=99999999999999999999999999999999999999999999",
            "does not fit",
            "range",
        ),
        (
            "void f(unsigned char x)",
            "x=300",
            "300 does not fit `unsigned char`, which holds 0 to 255",
            "range",
        ),
        (
            "void f(size_t x)",
            "x=-1",
            "does not fit `size_t`",
            "x=0xffffffffffffffff",
        ),
        ("void f(bool x)", "x=2", "true or false", "true"),
        ("void f(float x)", "x=1e39", "does not fit `float`", "range"),
        ("void f(double x)", "x=abc", "no number for `double`", "1.5"),
        (scalar, "x=str:hello", "no pointer", "'x=0'"),
        (scalar, "x=&y y=zero:4", "`&y` is a pointer", "x=0"),
        (scalar, "x={1}", "braces", "x=0"),
        (scalar, "x=mut:4", "`mut:` goes before a buffer", "mut:str"),
        (
            scalar,
            "x=freed:4",
            "`freed:` goes before a buffer",
            "freed:str",
        ),
        (
            buf,
            "buf=hello len=1",
            "no value for the pointer",
            "str:hello",
        ),
        (
            buf,
            "buf=string:hello len=1",
            "`string:` is no kind of buffer",
            "str:",
        ),
        (buf, "buf=u23:1 len=1", "`u23:` is no kind", "'u32:'"),
        (buf, "buf=hex:0 len=1", "not whole bytes", "two digits"),
        (buf, "buf=hex:0g len=1", "`g` is no hex", "two digits"),
        (buf, "buf=zero:abc len=1", "no size", "64k"),
        (buf, "buf=zero:-1 len=1", "no size", "64"),
        (buf, "buf=zero:1G len=1", "limit of 512M", "smaller"),
        (buf, "buf=u8:1,,2 len=1", "element is empty", "commas"),
        (buf, "buf=u8:256 len=1", "256 does not fit `u8`", "range"),
        (buf, "buf=@ len=1", "no file", "@FILE"),
        (buf, "buf={1} len=1", "no declared struct", "zero:64"),
        (
            buf,
            "buf=zero:4 len=len(bug)",
            "nothing named `bug`",
            "`buf`",
        ),
        (
            buf,
            "buf=zero:4 len=len(len)",
            "`len` is no buffer",
            "scalar",
        ),
        (buf, "buf=zero:4 len=len(buf", "not closed", "len(NAME)"),
        (
            buf,
            "buf=zero:4 len=len(buf)x",
            "after `len()`",
            "len(NAME)",
        ),
        (
            buf,
            "buf=zero:4 len=len(buf)-5",
            "-1 does not fit",
            "0xffffffff",
        ),
        (buf, "buf=zero:4 len=len(buf)/0", "no number", "len(NAME)"),
        (
            buf,
            "buf=&nothing len=1",
            "nothing named `nothing`",
            "nothing=zero:64",
        ),
        (buf, "buf=&len len=1", "`len` is no buffer", "u32:5"),
        (
            buf,
            "buf=&buf len=1",
            "need each other: buf -> buf",
            "its own",
        ),
        (
            buf,
            "buf=&a+x len=1 a=zero:1",
            "offset is no number",
            "&NAME+8",
        ),
        (
            buf,
            "buf=uninit:len(a) len=1 a=uninit:len(buf)",
            "need each other: buf -> a -> buf",
            "its own",
        ),
        (shape, "s=1", "one number", "s={{1,1},{0},null,null,1.5}"),
        (shape, "s={1}", "does not suit `struct point`", "'{…}'"),
        (
            shape,
            "s={{1,2,3}}",
            "more values than the 2 fields",
            "x, y",
        ),
        (shape, "s={.z=1}", "no field `z`", "at, name, label"),
        (shape, "s={.w=1,.w=2}", "given twice", "one value"),
        (shape, "s={{1},{1,2,3,4,5}}", "5 values", "at most 4"),
        (shape, "s={{1}", "brackets", "'{1,2}'"),
        (shape, "s={.label=str:x}", "holds no buffers", "&NAME"),
        (
            "void f(void (*cb)(int))",
            "cb=zero:8",
            "callbacks are not",
            "null",
        ),
        (
            "void f(const char *const *v)",
            "v=ptr:str:x",
            "no pointer",
            "ptr:&a",
        ),
    ];
    for (prototype, bindings, what, help) in cases {
        match bind(prototype, GEO, bindings) {
            Ok(plan) => panic!("{bindings} was taken as {plan:?}"),
            Err(error) => {
                let (text, mends) = (error.to_string(), error.help());
                assert!(text.contains(what), "{bindings}: {text}");
                assert!(mends.contains(help), "{bindings}: {mends}");
            }
        }
    }
}
