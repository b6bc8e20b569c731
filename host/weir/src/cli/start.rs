//! Arguments of the verbs that start a process of their own.

use std::path::PathBuf;

/// Arguments of `weir run`.
#[derive(Debug, Clone, clap::Args)]
#[command(before_help = "\
Examples:
  weir run                                     all defaults, in ./weir-data
  weir run --config weir.toml
  WEIR_LISTEN__MQTT=0.0.0.0:18883 weir run --config weir.toml")]
pub struct RunArgs {
    /// Configuration file; without one everything has its default
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Data folder, whatever the file says
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Arguments of `weir demo`.
#[derive(Debug, Clone, clap::Args)]
#[command(before_help = "\
Examples:
  weir demo                                    with keys to swap, break, cut and explain
  weir demo --duration 15                      by itself; checks that nothing was lost
  weir demo --data-dir /tmp/demo --port 0      keeps its data; any free port")]
pub struct DemoArgs {
    /// Folder for data; a temporary one when it is left out
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Port of the API; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = 8420)]
    pub port: u16,
    /// End after so many seconds, having swapped, broken and cut by itself
    #[arg(long, value_name = "SECONDS")]
    pub duration: Option<u64>,
}

/// Arguments of the compiling child.
#[derive(Debug, Clone, clap::Args)]
pub struct CompileModuleArgs {
    /// Whatever the hub gives
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<std::ffi::OsString>,
}
