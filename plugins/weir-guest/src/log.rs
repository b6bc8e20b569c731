//! `info!("…")` and its like: the text is made only when the hub would keep it.

/// Writes to the module's log.
#[macro_export]
macro_rules! log {
    ($level:ident, $($text:tt)+) => {
        if $crate::telemetry::enabled($crate::telemetry::Level::$level) {
            $crate::telemetry::log($crate::telemetry::Level::$level, &format!($($text)+), &[]);
        }
    };
}

/// Writes a line of level info to the module's log.
#[macro_export]
macro_rules! info {
    ($($text:tt)+) => { $crate::log!(Info, $($text)+) };
}

/// Writes a warning to the module's log.
#[macro_export]
macro_rules! warn {
    ($($text:tt)+) => { $crate::log!(Warn, $($text)+) };
}

/// Writes an error to the module's log.
#[macro_export]
macro_rules! error {
    ($($text:tt)+) => { $crate::log!(Error, $($text)+) };
}
