//! The only binary.

/// A call allocates some thousand times; this allocator takes a third of what the C library's takes for it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    countersign::cli::run()
}
