//! The functions that manage memory, by the names that libraries import them under.

use std::fmt;

/// How memory was made, and so how it has to be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// `malloc` and its like; given back by `free` or `realloc`.
    Malloc,
    /// `operator new`; given back by `operator delete`.
    New,
    /// `operator new[]`; given back by `operator delete[]`.
    NewArray,
    /// `mmap`; given back by `munmap`.
    Mmap,
}

impl Family {
    /// The function that gives back what this family made, for messages.
    pub fn given_back_by(self) -> &'static str {
        match self {
            Family::Malloc => "free",
            Family::New => "operator delete",
            Family::NewArray => "operator delete[]",
            Family::Mmap => "munmap",
        }
    }
}

macro_rules! functions {
    ($($variant:ident $symbol:literal $name:literal $family:ident;)*) => {
        /// A function that is interposed. C++ operators are told apart by their full signature.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(usize)]
        #[allow(missing_docs, reason = "each is the function of its name")]
        pub enum Function {
            $($variant,)*
        }

        impl Function {
            /// All of them.
            pub const ALL: &'static [Function] = &[$(Function::$variant,)*];

            /// The name in symbol tables.
            pub fn symbol(self) -> &'static str {
                match self {
                    $(Function::$variant => $symbol,)*
                }
            }

            /// The name that people know it by.
            pub fn name(self) -> &'static str {
                match self {
                    $(Function::$variant => $name,)*
                }
            }

            /// What it makes or gives back.
            pub fn family(self) -> Family {
                match self {
                    $(Function::$variant => Family::$family,)*
                }
            }
        }
    };
}

functions! {
    Malloc "malloc" "malloc" Malloc;
    Calloc "calloc" "calloc" Malloc;
    Realloc "realloc" "realloc" Malloc;
    ReallocArray "reallocarray" "reallocarray" Malloc;
    AlignedAlloc "aligned_alloc" "aligned_alloc" Malloc;
    PosixMemalign "posix_memalign" "posix_memalign" Malloc;
    Memalign "memalign" "memalign" Malloc;
    Valloc "valloc" "valloc" Malloc;
    Pvalloc "pvalloc" "pvalloc" Malloc;
    Strdup "strdup" "strdup" Malloc;
    StrdupOld "__strdup" "strdup" Malloc;
    Strndup "strndup" "strndup" Malloc;
    StrndupOld "__strndup" "strndup" Malloc;
    UsableSize "malloc_usable_size" "malloc_usable_size" Malloc;
    Getline "getline" "getline" Malloc;
    Getdelim "getdelim" "getdelim" Malloc;
    GetdelimOld "__getdelim" "getdelim" Malloc;
    Free "free" "free" Malloc;
    Mmap "mmap" "mmap" Mmap;
    Mmap64 "mmap64" "mmap" Mmap;
    Munmap "munmap" "munmap" Mmap;
    New "_Znwm" "operator new" New;
    NewNothrow "_ZnwmRKSt9nothrow_t" "operator new" New;
    NewAligned "_ZnwmSt11align_val_t" "operator new" New;
    NewAlignedNothrow "_ZnwmSt11align_val_tRKSt9nothrow_t" "operator new" New;
    NewArray "_Znam" "operator new[]" NewArray;
    NewArrayNothrow "_ZnamRKSt9nothrow_t" "operator new[]" NewArray;
    NewArrayAligned "_ZnamSt11align_val_t" "operator new[]" NewArray;
    NewArrayAlignedNothrow "_ZnamSt11align_val_tRKSt9nothrow_t" "operator new[]" NewArray;
    Delete "_ZdlPv" "operator delete" New;
    DeleteNothrow "_ZdlPvRKSt9nothrow_t" "operator delete" New;
    DeleteSized "_ZdlPvm" "operator delete" New;
    DeleteAligned "_ZdlPvSt11align_val_t" "operator delete" New;
    DeleteAlignedNothrow "_ZdlPvSt11align_val_tRKSt9nothrow_t" "operator delete" New;
    DeleteSizedAligned "_ZdlPvmSt11align_val_t" "operator delete" New;
    DeleteArray "_ZdaPv" "operator delete[]" NewArray;
    DeleteArrayNothrow "_ZdaPvRKSt9nothrow_t" "operator delete[]" NewArray;
    DeleteArraySized "_ZdaPvm" "operator delete[]" NewArray;
    DeleteArrayAligned "_ZdaPvSt11align_val_t" "operator delete[]" NewArray;
    DeleteArrayAlignedNothrow "_ZdaPvSt11align_val_tRKSt9nothrow_t" "operator delete[]" NewArray;
    DeleteArraySizedAligned "_ZdaPvmSt11align_val_t" "operator delete[]" NewArray;
}

impl Function {
    /// The function of a symbol, a version left out.
    pub fn of_symbol(symbol: &str) -> Option<Function> {
        let name = symbol.split('@').next().unwrap_or(symbol);
        Function::ALL
            .iter()
            .copied()
            .find(|function| function.symbol() == name)
    }

    /// Whether it is an operator of C++, which a program may replace by one of its own.
    pub fn is_operator(self) -> bool {
        matches!(self.family(), Family::New | Family::NewArray)
    }

    /// Its place in tables of all functions.
    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_told_apart() {
        for (index, function) in Function::ALL.iter().enumerate() {
            assert_eq!(function.index(), index);
            assert_eq!(Function::of_symbol(function.symbol()), Some(*function));
        }
        assert_eq!(
            Function::of_symbol("malloc@GLIBC_2.2.5"),
            Some(Function::Malloc)
        );
        assert_eq!(Function::of_symbol("mallocx"), None);
        assert!(Function::DeleteSized.is_operator() && !Function::Free.is_operator());
    }
}
