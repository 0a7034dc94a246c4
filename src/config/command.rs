//! The command line: what to do, and a flag for every variable of the environment.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Command};

use super::variables::{self, Variable};
use super::{Config, SettingError};

/// What the program is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Serve until told to stop.
    Serve,
    /// Test the settings and each connection, and exit.
    Check,
    /// Bring the tables up to date, and exit.
    Migrate,
    /// Remove one user's traces, and exit.
    Erase {
        /// The user's id, as given; not yet checked.
        user: String,
    },
}

/// Why the program does not start.
#[derive(Debug)]
pub enum CommandError {
    /// Help or version was asked for, or the command line is not understood: a text to print, and
    /// whether that is a failure.
    Usage {
        /// What to print.
        text: String,
        /// False for help and version.
        failure: bool,
    },
    /// A setting is not allowed.
    Setting(SettingError),
}

/// Reads the command line and, through it, the environment.
///
/// # Errors
/// See [`CommandError`].
pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<(Task, Config), CommandError> {
    let matches = command().try_get_matches_from(arguments).map_err(|error| refused(&error))?;
    let (task, values) = match matches.subcommand() {
        Some(("check", values)) => (Task::Check, values),
        Some(("migrate", values)) => (Task::Migrate, values),
        Some(("erase", values)) => {
            let user = values.get_one::<String>("user").cloned().unwrap_or_default();
            (Task::Erase { user }, values)
        }
        Some((_, values)) => (Task::Serve, values),
        None => (Task::Serve, &matches),
    };
    let config = Config::load(|name| text(values, name)).map_err(CommandError::Setting)?;
    Ok((task, config))
}

fn text(values: &ArgMatches, name: &str) -> Option<String> {
    values.get_one::<String>(name).cloned()
}

/// Help and version are no failures; a variable that is not UTF-8 is a setting like any other.
fn refused(error: &clap::Error) -> CommandError {
    if error.kind() == ErrorKind::InvalidUtf8 {
        let broken = |name: &str| std::env::var_os(name).is_some_and(|it| it.to_str().is_none());
        let name = variables::all().map(|it| it.name).find(|name| broken(name));
        let held = "holds bytes that are not UTF-8";
        return CommandError::Setting(SettingError::new(name.unwrap_or("a flag"), held, "UTF-8"));
    }
    CommandError::Usage { text: error.render().to_string(), failure: error.use_stderr() }
}

/// The whole command line; `--help` prints every variable with its default.
pub fn command() -> Command {
    let user = Arg::new("user").long("user").value_name("ID").required(true);
    Command::new("call-service")
        .version(env!("CARGO_PKG_VERSION"))
        .about(env!("CARGO_PKG_DESCRIPTION"))
        .after_help("Each setting is a variable of the environment, or the flag beside it.")
        .disable_help_subcommand(true)
        .subcommand(Command::new("serve").about("Serve until SIGTERM (what happens by default)"))
        .subcommand(Command::new("check").about("Test the settings and each connection, and exit"))
        .subcommand(Command::new("migrate").about("Bring the tables up to date, and exit"))
        .subcommand(
            Command::new("erase")
                .about("Remove one user's traces, and exit")
                .arg(user.help("whose traces")),
        )
        .args(variables::all().map(flag))
}

fn flag(variable: Variable) -> Arg {
    let help = match variable.default {
        "" => variable.help.to_owned(),
        default => format!("{} [default: {default}]", variable.help),
    };
    Arg::new(variable.name)
        .long(variable.name.to_ascii_lowercase().replace('_', "-"))
        .env(variable.name)
        // Values come from the environment of whoever asks for help, and may be secrets.
        .hide_env_values(true)
        .value_name("VALUE")
        .help(help)
        .help_heading(variable.group)
        .global(true)
}
