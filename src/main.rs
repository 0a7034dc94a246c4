//! The program: allocator, settings, telemetry, runtime, exit code; nothing else.

mod tasks;

use std::process::ExitCode;

use call_service::config::Config;
use call_service::config::command::{CommandError, Task, read};
use call_service::parts::StartError;
use call_service::telemetry::Figures;
use call_service::{server, shutdown, telemetry};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit code where the command line or a setting cannot be followed.
const MISUSED: u8 = 2;

fn main() -> ExitCode {
    let (task, config) = match read(std::env::args_os()) {
        Ok(read) => read,
        Err(error) => return refuse(error),
    };
    let figures = telemetry::start(config.log_level.name());
    let done = tokio::runtime::Runtime::new()
        .map_err(StartError::from)
        .and_then(|runtime| runtime.block_on(perform(task, config, figures)));
    match done {
        Ok(code) => code,
        Err(StartError::Setting(error)) => refuse(CommandError::Setting(error)),
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

async fn perform(task: Task, config: Config, figures: Figures) -> Result<ExitCode, StartError> {
    match task {
        Task::Serve => Box::pin(server::run(config, figures, shutdown::signalled()?)).await?,
        Task::Check => return Ok(tasks::check(&config).await),
        Task::Migrate => tasks::migrate(&config).await?,
        Task::Erase { user } => tasks::erase(&config, &user).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Help and version are answers; all else is one line, and an exit code of its own.
#[expect(clippy::print_stdout, reason = "help is what was asked for")]
fn refuse(error: CommandError) -> ExitCode {
    match error {
        CommandError::Usage { text, failure: false } => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        CommandError::Usage { text, failure: true } => complain(text.trim_end()),
        CommandError::Setting(error) => complain(&error.to_string()),
    }
    ExitCode::from(MISUSED)
}

#[expect(clippy::print_stderr, reason = "the last word of a program that does not run")]
fn complain(text: &str) {
    eprintln!("{text}");
}
