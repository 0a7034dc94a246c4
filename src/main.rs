//! The program: allocator, settings, runtime, exit code; nothing else.

use std::process::ExitCode;

use call_service::config::command::{CommandError, Task, read};
use call_service::{server, shutdown, telemetry};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let (task, config) = match read(std::env::args_os()) {
        Ok(read) => read,
        Err(CommandError::Usage { text, .. }) => {
            println!("{text}");
            return ExitCode::FAILURE;
        }
        Err(CommandError::Setting(e)) => {
            println!("{e}");
            return ExitCode::FAILURE;
        }
    };
    let figures = telemetry::start(config.log_level.name());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _ = task;
    runtime
        .block_on(async move {
            let stop = shutdown::signalled().unwrap();
            server::run(config, figures, stop).await
        })
        .map_or_else(
            |e| {
                eprintln!("{e}");
                ExitCode::FAILURE
            },
            |()| ExitCode::SUCCESS,
        )
}
