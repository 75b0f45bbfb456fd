//! The binary `docent`: server, shell, recipes for any program, benchmark.

mod cli;

/// Many small values are made in one thread and dropped in another, which the system's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
