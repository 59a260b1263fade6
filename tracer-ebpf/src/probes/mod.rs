//! The programs, and the maps that they share with the loader.

mod call;
mod fault;
mod maps;
